//! Ten times as many clients as one core can serve: `tests/stress/overload.py` measures, and this takes its figures.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::service::TRUSTMINT;
use crate::table::Report;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The rows about overload; none if there is no Python that can run the script.
pub fn measure(report: &mut Report) {
    let python = std::env::var_os("TRUSTMINT_TEST_PYTHON").map(PathBuf::from);
    let python = python.unwrap_or_else(|| PathBuf::from(ROOT).join("target/venv/bin/python"));
    let output = Command::new(python)
        .arg(format!("{ROOT}/tests/stress/overload.py"))
        .args(["--seconds", "15", "--json"])
        .env("TRUSTMINT_STRESS_BINARY", TRUSTMINT)
        .output();
    let seen = output
        .ok()
        .and_then(|output| serde_json::from_str::<Value>(String::from_utf8_lossy(&output.stdout).lines().last()?).ok());
    let Some(seen) = seen else {
        eprintln!(
            "overload is left out: it takes target/venv (tests/run makes it), or a Python in TRUSTMINT_TEST_PYTHON"
        );
        return;
    };
    let flood = |name: &str| seen["flood"][name].as_f64().unwrap();
    report.figure("overload ×10: served a second", flood("served"));
    report.figure("overload ×10: refused a second, all with 503 and Retry-After", flood("refused"));
    report.row("overload ×10: goodput lost", 1.0 - flood("goodput"), "", 0.2);
    report.row("overload ×10: resident memory", flood("resident_mib"), "MiB", 60.0);
}
