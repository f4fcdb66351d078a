//! What was measured, for people and for programs.

use serde_json::Value;
use serde_json::json;

use crate::service::Load;

/// All of it.
#[derive(Default)]
pub struct Report {
    pub loads: Vec<(String, Load)>,
    pub rows: Vec<Row>,
    /// Figures without a budget, each with its unit in its name.
    pub figures: Vec<(&'static str, f64)>,
    /// What an exchange costs against something: its name, and points of that and microseconds.
    pub sweeps: Vec<(&'static str, Vec<(f64, f64)>)>,
}

/// A row of the table of budgets.
pub struct Row {
    what: &'static str,
    measured: f64,
    unit: &'static str,
    budget: f64,
}

impl Row {
    fn is_met(&self) -> bool {
        self.measured <= self.budget
    }
}

impl Report {
    /// Keeps the least of each figure that a kind of load has had, for the machine's noise only ever adds.
    pub fn see(&mut self, what: &str, load: Load) {
        match self.loads.iter_mut().find(|(known, _)| known == what) {
            Some((_, best)) => best.keep_best(&load),
            None => self.loads.push((what.to_owned(), load)),
        }
    }

    pub fn of(&self, what: &str) -> &Load {
        &self.loads.iter().find(|(known, _)| known == what).unwrap().1
    }

    pub fn row(&mut self, what: &'static str, measured: f64, unit: &'static str, budget: f64) {
        self.rows.push(Row { what, measured, unit, budget });
    }

    pub fn figure(&mut self, what: &'static str, value: f64) {
        self.figures.push((what, value));
    }

    pub fn is_met(&self) -> bool {
        self.rows.iter().all(Row::is_met)
    }

    pub fn json(&self) -> Value {
        let loads = self.loads.iter().map(|(what, load)| {
            json!({"what": what, "cpu_us": load.cpu_us, "p50_us": load.p50_us, "p99_us": load.p99_us,
                   "p999_us": load.p999_us, "per_second": load.per_second, "resident_mib": load.resident_mib})
        });
        let rows = self.rows.iter().map(|row| {
            json!({"what": row.what, "measured": row.measured, "unit": row.unit, "budget": row.budget, "met": row.is_met()})
        });
        let figures: Value = self.figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let sweeps: Value = self.sweeps.iter().map(|(name, points)| ((*name).to_owned(), json!(points))).collect();
        json!({"loads": loads.collect::<Value>(), "rows": rows.collect::<Value>(), "figures": figures, "sweeps": sweeps})
    }

    pub fn print(&self) {
        if !self.loads.is_empty() {
            println!(
                "\n{:34} {:>7} {:>8} {:>8} {:>8} {:>9} {:>7}",
                "load", "CPU µs", "p50 µs", "p99 µs", "p99.9 µs", "a second", "MiB"
            );
        }
        for (what, load) in &self.loads {
            let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
            println!(
                "{what:34} {:>7} {:>8} {:>8} {:>8} {:>9} {:>7}",
                load.cpu_us.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}")),
                cell(load.p50_us),
                cell(load.p99_us),
                cell(load.p999_us),
                cell(load.per_second),
                load.resident_mib.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}")),
            );
        }
        println!();
        for (what, value) in &self.figures {
            println!("{what:64} {value:10.1}");
        }
        for (what, points) in &self.sweeps {
            println!("\nexchange by {what}");
            for (at, cpu_us) in points {
                println!("{at:>12} {cpu_us:8.1} µs");
            }
        }
        if !self.rows.is_empty() {
            println!("\n{:68} {:>12} {:>10}", "what", "measured", "budget");
        }
        for row in &self.rows {
            let Row { what, measured, unit, budget } = row;
            let met = if row.is_met() { "met" } else { "missed" };
            println!("{what:68} {measured:8.3} {unit:3} {budget:8} {unit:3} {met}");
        }
    }
}
