//! Files → the rules of one moment: plan, reference lists, tenants; or which file is wrong, and
//! why.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

use crate::domain::plan::list::{self, ListError};
use crate::domain::plan::{FieldRole, Plan, PlanError};
use crate::domain::tenant::{Sender, Tenants, TenantsError};

/// A plan in place of the built-in one, among the reference lists.
const PLAN_FILE: &str = "plan.toml";

/// Where the rules come from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// `REFERENCE_LISTS`: one file a list, and a plan.
    pub lists: Option<PathBuf>,
    /// `TENANTS`.
    pub tenants: Option<PathBuf>,
    /// The AMQP users of the relay itself.
    pub own_users: Vec<String>,
}

/// The rules of one moment.
#[derive(Debug)]
pub struct RuleSet {
    /// The plan, reference lists included.
    pub plan: Plan,
    /// Who may send for whom; none: nobody checks.
    pub tenants: Option<Tenants>,
}

/// Which file was refused, and why.
#[derive(Debug, Error)]
pub enum RulesError {
    /// Not there, or not ours to read.
    #[error("{path} cannot be read: {error}", path = path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is a pipe, a device or a directory in place of a file.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// A file of that name would be ignored in silence, and its list be taken for one that is not
    /// loaded.
    #[error("{path} is the file of no list; the lists are {lists}", path = path.display())]
    NoSuchList {
        /// The file.
        path: PathBuf,
        /// The lists that there are.
        lists: String,
    },
    /// A broken list.
    #[error("{path}: {error}", path = path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ListError,
    },
    /// A broken plan.
    #[error("{path}: {error}", path = path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PlanError,
    },
    /// Broken tenants.
    #[error("{path}: {error}", path = path.display())]
    Tenants {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: TenantsError,
    },
    /// The built-in plan.
    #[error(transparent)]
    BuiltIn(#[from] PlanError),
}

/// What a file looked like: its name, time of change in nanoseconds, length and number. Another
/// stamp is another version.
pub(super) type Stamp = Vec<(PathBuf, i128, u64, u64)>;

impl Source {
    /// Reads everything.
    ///
    /// # Errors
    /// [`RulesError`] for the first file that is wrong.
    pub fn read(&self) -> Result<RuleSet, RulesError> {
        let plan = self.plan()?;
        let tenants = self.tenants(&plan)?;
        Ok(RuleSet { plan, tenants })
    }

    /// The plan with the reference lists, without the tenants.
    ///
    /// # Errors
    /// [`RulesError`] for the first file that is wrong.
    pub fn plan(&self) -> Result<Plan, RulesError> {
        let files = self.list_files()?;
        let own = files.iter().find(|path| path.ends_with(PLAN_FILE));
        let mut plan = match own {
            Some(path) => {
                let text = String::from_utf8(bounded(path)?).map_err(|_| RulesError::List {
                    path: path.clone(),
                    error: ListError::NotUtf8,
                })?;
                Plan::parse(&text)
                    .map_err(|error| RulesError::Plan { path: path.clone(), error })?
            }
            None => Plan::built_in()?,
        };
        for path in files.iter().filter(|path| Some(*path) != own) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if plan.list(&name).is_none() {
                let lists = plan
                    .lists()
                    .iter()
                    .map(|list| list.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(RulesError::NoSuchList { path: path.clone(), lists });
            }
            let values = list::parse(&bounded(path)?)
                .map_err(|error| RulesError::List { path: path.clone(), error })?;
            plan.load(&name, values)?;
        }
        Ok(plan)
    }

    fn tenants(&self, plan: &Plan) -> Result<Option<Tenants>, RulesError> {
        let Some(path) = &self.tenants else { return Ok(None) };
        let text = bounded(path)?;
        let text = String::from_utf8(text)
            .map_err(|_| RulesError::List { path: path.clone(), error: ListError::NotUtf8 })?;
        let tenants = Tenants::parse(&text, plan, &self.own_users);
        tenants.map(Some).map_err(|error| RulesError::Tenants { path: path.clone(), error })
    }

    /// The `.txt` and `.toml` files of the directory; a mounted ConfigMap has others, which begin
    /// with a dot.
    fn list_files(&self) -> Result<Vec<PathBuf>, RulesError> {
        let Some(directory) = &self.lists else { return Ok(Vec::new()) };
        let unreadable = |error| RulesError::Unreadable { path: directory.clone(), error };
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let hidden =
                path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            if !hidden
                && path
                    .extension()
                    .is_some_and(|extension| extension == "txt" || extension == "toml")
            {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// What the files look like now; a file that cannot be seen has a stamp of its own.
    pub(super) fn stamp(&self) -> Stamp {
        let files = self.list_files().unwrap_or_default().into_iter().chain(self.tenants.clone());
        let look = |path: PathBuf| match fs::metadata(&path) {
            Ok(file) => (
                path,
                i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec()),
                file.len(),
                file.ino(),
            ),
            Err(_) => (path, -1, 0, 0),
        };
        files.map(look).collect()
    }
}

/// Reads a file of rules, none of which is larger than a list may be. What is no regular file is
/// refused: a pipe or a device may never come to an end, or never begin.
fn bounded(path: &Path) -> Result<Vec<u8>, RulesError> {
    let unreadable = |error| RulesError::Unreadable { path: path.to_owned(), error };
    // Opened like this, a pipe that nobody writes to does not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = fs::File::from(opened.map_err(|error| unreadable(error.into()))?);
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(RulesError::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(list::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > list::MAX_BYTES {
        return Err(RulesError::List { path: path.to_owned(), error: ListError::TooLarge });
    }
    Ok(bytes)
}

impl RuleSet {
    /// The value of a field, if it is one of the field's list: what an account may be named after,
    /// and a metric labelled with.
    pub fn listed<'v>(&self, role: FieldRole, value: Option<&'v str>) -> Option<&'v str> {
        let field = self.plan.role_index(role).and_then(|index| self.plan.fields().get(index))?;
        let list = self.plan.list_of(field)?;
        value.filter(|value| list.contains(value))
    }

    /// Who a verified AMQP user is.
    pub fn sender(&self, user: Option<&str>) -> Sender<'_> {
        self.tenants.as_ref().map_or(Sender::Unchecked, |tenants| tenants.sender(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_lists_and_a_misspelt_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let write =
            |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        let source = Source { lists: Some(folder.path().to_owned()), ..Source::default() };
        write("outils.txt", "PRONOTE\n");
        write("types.txt", "NATIF\nTIERS\nAUTRE\n");
        write("README.md", "not a list");
        write(".hidden.txt", "");
        let plan = source.read().expect("reads").plan;
        assert!(plan.list("outils").expect("list").contains("PRONOTE"));
        assert!(plan.list("types").expect("list").contains("AUTRE"), "a closed list is overridden");
        assert!(!plan.list("exploitants").expect("list").is_loaded());
        write("exploitant.txt", "A\n");
        let error = source.read().expect_err("misspelt").to_string();
        assert!(error.contains("exploitant.txt") && error.contains("exploitants"), "{error}");
    }

    #[test]
    fn a_pipe_in_place_of_a_file_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("outils.txt");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        let source = Source { lists: Some(folder.path().to_owned()), ..Source::default() };
        let error = source.read().expect_err("a pipe").to_string();
        assert!(error.contains("outils.txt is not a regular file"), "{error}");
        let source = Source { tenants: Some(pipe), ..Source::default() };
        assert!(matches!(source.read(), Err(RulesError::NotAFile(_))));
        let source = Source { tenants: Some("/dev/zero".into()), ..Source::default() };
        assert!(matches!(source.read(), Err(RulesError::NotAFile(_))));
    }

    #[test]
    fn a_plan_among_the_lists_takes_the_place_of_the_built_in_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = include_str!("../../domain/plan/rfti-2.01.toml")
            .replace("version = \"2.01\"", "version = \"2.02\"");
        fs::write(folder.path().join(PLAN_FILE), text).expect("written");
        let source = Source { lists: Some(folder.path().to_owned()), ..Source::default() };
        assert_eq!(source.read().expect("reads").plan.version, "2.02");
    }
}
