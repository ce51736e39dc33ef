//! Every path renders with every helm, to the same objects, and the main ones to the files that are
//! kept.

use crate::chart::{helm, helms, matches_file, parse, paths, read, root, template};

/// Paths whose whole text is kept: a reviewer sees what a change of a template changes.
const GOLDEN: [&str; 5] = ["default", "settings", "keda", "externalsecret", "extras"];

#[test]
fn every_path_is_linted_and_rendered_alike_by_every_helm() {
    for path in paths() {
        let values = format!("ci/{path}-values.yaml");
        let mut rendered = Vec::new();
        for program in helms() {
            let linted = helm(&program, &["lint", "--strict", ".", "--values", &values]);
            assert!(
                linted.status.success(),
                "{program} {path}: {}",
                String::from_utf8_lossy(&linted.stdout)
            );
            rendered
                .push(parse(&template(&program, ".", &values, &[]).expect(&path)).expect(&path));
        }
        assert!(rendered.windows(2).all(|pair| pair[0] == pair[1]), "{path}: the helms differ");
    }
}

#[test]
fn the_main_paths_are_what_they_were() {
    let program = helms().pop().expect("a helm");
    for path in GOLDEN {
        let text = template(&program, ".", &format!("ci/{path}-values.yaml"), &[]).expect(path);
        matches_file(&format!("tests/chart/golden/{path}.yaml"), &text);
    }
}

/// Values that worked with a version work with all later ones, but for what `UPGRADE` in the
/// chart's README says.
#[test]
fn values_of_every_former_version_still_render() {
    let folder = root().join("tests/chart/upgrade");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("tests/chart/upgrade") {
        let path = entry.expect("an entry").path();
        for program in helms() {
            template(&program, ".", &path.to_string_lossy(), &["--is-upgrade"]).expect("renders");
        }
        count += 1;
    }
    assert!(count > 0, "no values of any version");
}

#[test]
fn the_chart_and_the_relay_have_one_version() {
    let version = |file: &str, key: &str| {
        let line = read(file)
            .lines()
            .find_map(|line| line.strip_prefix(key).map(str::to_owned))
            .expect(key);
        line.trim_matches(['"', ' ']).to_owned()
    };
    assert_eq!(
        version("helm/dnma-relay/Chart.yaml", "appVersion: "),
        version("Cargo.toml", "version = ")
    );
}

#[test]
fn a_package_has_all_that_it_needs() {
    for program in helms() {
        let folder = tempfile::tempdir().expect("a folder");
        let destination = folder.path().to_string_lossy().into_owned();
        let packaged = helm(&program, &["package", ".", "--destination", &destination]);
        assert!(packaged.status.success(), "{}", String::from_utf8_lossy(&packaged.stderr));
        let archive = std::fs::read_dir(folder.path())
            .expect("a folder")
            .next()
            .expect("a package")
            .expect("a package")
            .path();
        let values = root().join("helm/dnma-relay/ci/monitoring-values.yaml");
        let text = template(&program, &archive.to_string_lossy(), &values.to_string_lossy(), &[])
            .expect("renders");
        assert_eq!(parse(&text).expect("YAML"), crate::chart::objects("monitoring"));
    }
}
