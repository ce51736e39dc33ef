//! Instructions, allocations and bytes that each step costs a hit, counted by valgrind and held
//! against what is written down in `instructions.toml`: a core that became slower shows on any
//! machine, however busy. `UPDATE=1` writes down anew.
//!
//! What the set-up costs falls out: the program is counted twice, with different numbers of hits.

mod steps;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use steps::{Desk, STEPS};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml");

/// How much more a step may cost than was written down, and with another compiler.
const TOLERANCE: f64 = 0.03;
const TOLERANCE_OF_COMPILERS: f64 = 0.10;

/// Hits of the two counts.
const FEW: usize = 200;
const MANY: usize = 1_200;

/// What a hit costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Cost {
    instructions: f64,
    allocations: f64,
    bytes: f64,
}

/// What was written down.
#[derive(Debug, Serialize, Deserialize)]
struct Baseline {
    rustc: String,
    steps: BTreeMap<String, Cost>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [step, times] = arguments.as_slice() {
        Desk::new()?.repeat(step, times.parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("NOT COUNTED: valgrind is not here (apt-get install valgrind)");
        return Ok(ExitCode::SUCCESS);
    }
    let rustc = String::from_utf8(Command::new("rustc").arg("--version").output()?.stdout)?
        .trim()
        .to_owned();
    let mut steps = BTreeMap::new();
    for step in STEPS {
        steps.insert(step.to_owned(), cost(step)?);
    }
    if std::env::var_os("UPDATE").is_some() {
        let head = "# What a hit costs at each step, counted by `make instructions`. `make \
                    instructions UPDATE=1` writes it anew.\n";
        std::fs::write(
            BASELINE,
            format!("{head}{}", toml::to_string(&Baseline { rustc, steps })?),
        )?;
        println!("written down in {BASELINE}");
        return Ok(ExitCode::SUCCESS);
    }
    let before: Baseline = toml::from_str(&std::fs::read_to_string(BASELINE)?)?;
    Ok(compare(&before, &Baseline { rustc, steps }))
}

/// Prints both, and tells whether nothing became dearer.
fn compare(before: &Baseline, now: &Baseline) -> ExitCode {
    let tolerance = if before.rustc == now.rustc {
        TOLERANCE
    } else {
        println!(
            "counted with {}, written down with {}: {:.0} % more are let pass",
            now.rustc,
            before.rustc,
            100.0 * TOLERANCE_OF_COMPILERS
        );
        TOLERANCE_OF_COMPILERS
    };
    let mut dearer = false;
    println!(
        "{:<9} {:>22} {:>22} {:>22}",
        "a hit", "instructions (before)", "allocations (before)", "bytes (before)"
    );
    for (step, cost) in &now.steps {
        let old = before.steps.get(step).copied().unwrap_or(Cost {
            instructions: 0.0,
            allocations: 0.0,
            bytes: 0.0,
        });
        let cells = [
            (cost.instructions, old.instructions),
            (cost.allocations, old.allocations),
            (cost.bytes, old.bytes),
        ];
        let text =
            cells.map(|(new, old)| format!("{:>22}", format!("{new:.1} ({old:.1})"))).join(" ");
        let worse = cells.iter().any(|(new, old)| *new > old * (1.0 + tolerance) + 0.05);
        println!("{step:<9} {text}{}", if worse { "  DEARER" } else { "" });
        dearer |= worse;
    }
    if dearer {
        println!(
            "\nA hit costs more than was written down. If that is worth it: make instructions \
             UPDATE=1"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What one more hit costs at a step.
fn cost(step: &str) -> anyhow::Result<Cost> {
    let (few, many) = (count(step, FEW)?, count(step, MANY)?);
    let each =
        |of: fn(&Cost) -> f64| ((of(&many) - of(&few)) / (MANY - FEW) as f64 * 10.0).round() / 10.0;
    Ok(Cost {
        instructions: each(|cost| cost.instructions),
        allocations: each(|cost| cost.allocations),
        bytes: each(|cost| cost.bytes),
    })
}

fn count(step: &str, times: usize) -> anyhow::Result<Cost> {
    let instructions = valgrind("callgrind", "--callgrind-out-file=/dev/null", step, times)?;
    let instructions = after(&instructions, "Collected :").context("callgrind's count")?;
    let blocks = valgrind("dhat", "--dhat-out-file=/dev/null", step, times)?;
    let bytes = after(&blocks, "Total:").context("dhat's count")?;
    let allocations = after(&blocks, "bytes in ").context("dhat's count")?;
    Ok(Cost { instructions, allocations, bytes })
}

fn valgrind(tool: &str, out: &str, step: &str, times: usize) -> anyhow::Result<String> {
    let mut command = Command::new("valgrind");
    command
        .arg(format!("--tool={tool}"))
        .arg(out)
        .arg(std::env::current_exe()?)
        .args([step, &times.to_string()]);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "valgrind: {text}");
    Ok(text)
}

/// The number after these words, which valgrind writes with commas.
fn after(text: &str, words: &str) -> Option<f64> {
    let (_, rest) = text.split_once(words)?;
    let number: String = rest
        .trim_start()
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == ',')
        .filter(char::is_ascii_digit)
        .collect();
    number.parse().ok()
}
