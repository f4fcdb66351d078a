//! `trustmint demo`: a whole exchange on this machine, narrated.

use std::io;
use std::io::ErrorKind;
use std::io::IsTerminal;
use std::io::Write;
use std::sync::Arc;

use actix_web::rt::System;
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::cli::Ended;
use crate::cli::serve::draining::StopSignals;
use crate::demo::narrative;
use crate::demo::narrative::Step;
use crate::demo::world::World;
use crate::telemetry::logs;
use crate::telemetry::logs::LogFormat;
use crate::time::SystemClock;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Stop after the last step instead of staying up; fail if a step came out differently than it should
    #[arg(long)]
    once: bool,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) fn run(self) -> Ended {
        logs::start(LogFormat::Text, "warn", None)?;
        match System::new().block_on(self.show_until_stopped()) {
            // Nobody listens any more (`trustmint demo | head`).
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            shown => Ok(shown?),
        }
    }

    /// Whatever ends the demonstration, what it started has ended and what it wrote is removed when this returns.
    async fn show_until_stopped(&self) -> io::Result<bool> {
        let mut signals = StopSignals::catch()?;
        tokio::select! {
            shown = self.show() => return shown,
            () = signals.next() => {}
            () = hang_up() => {}
        }
        if !self.json {
            print("\nStopped. Nothing is left behind.\n")?;
        }
        Ok(!self.once)
    }

    /// Tells the story, and stays up after it unless told otherwise.
    async fn show(&self) -> io::Result<bool> {
        let world = World::start(Arc::new(SystemClock)).await?;
        if !self.json {
            print(&format!("\n{}\n\n{}", bold("trustmint demo"), narrative::preface(&world)))?;
        }
        let came_out = narrative::tell(&world, |step| self.print_step(&step)).await?;
        if !came_out {
            return Ok(false);
        }
        if self.once {
            if !self.json {
                print("\nEvery step came out as it should.\n")?;
            }
            return Ok(true);
        }
        let invitation = narrative::invite(&world)?;
        if self.json {
            print_json(&invitation)?;
        } else {
            print(&format!("\n{}\n\n{}\n", bold("Your turn"), invitation.text))?;
        }
        std::future::pending().await
    }

    fn print_step(&self, step: &Step) -> io::Result<()> {
        if self.json {
            return print_json(step);
        }
        let heading = bold(&format!("{}. {}", step.step, step.title));
        print(&format!("\n{heading}\n\n{}", step.text))?;
        if !step.came_out() {
            let (expected, got) = (&step.expected, &step.got);
            print(&format!("\n   This should have come to `{expected}`; it came to `{got}`.\n"))?;
        }
        Ok(())
    }
}

/// Prints at once. A closed pipe ends the story.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn print_json(line: &impl Serialize) -> io::Result<()> {
    print(&format!("{}\n", serde_json::to_string(line)?))
}

fn bold(text: &str) -> String {
    if io::stdout().is_terminal() { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Returns when the terminal is closed.
async fn hang_up() {
    match signal(SignalKind::hangup()) {
        Ok(mut closed) => {
            let _closed = closed.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
