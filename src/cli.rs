//! The command line: a rim that calls what HTTP calls. Only `main` names it.
//!
//! Output is for people unless `--json` asks for the same facts for programs. Tokens and keys come from files or
//! standard input, never from arguments, which other users of the machine can read. Exit codes: 0 done or allowed, 1
//! refused or faulty, 2 called wrongly.

use std::fmt::Display;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;

use crate::escape::escape_json;
use crate::identity::token::UnverifiedToken;
use crate::macaroon::Unverified;

mod audit;
mod check;
mod demo;
mod health;
mod issuer;
mod keys;
mod policy;
mod probe;
mod serve;
mod stop;
mod token;

/// Trusted publishing for any package registry.
#[derive(Debug, Parser)]
#[command(name = "trustmint", version, about, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the service
    Serve(serve::Serve),
    /// Watch a whole exchange on this machine: a loopback identity provider, a registry, an upload, a refusal
    Demo(demo::Demo),
    /// Read settings, keys and policy as `serve` would, and say everything that is wrong with them
    Check(check::Check),
    /// Ask the service that these settings start whether it can serve requests
    Health(health::Health),
    /// Decide as the service would, and say why
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Identity providers
    #[command(subcommand)]
    Issuer(issuer::Issuer),
    /// The service's own keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Ask a running service what jobs ask it, and what attackers do: each registry's host must answer, and refuse a forgery
    Probe(probe::Probe),
    /// Upload tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Stop an identity provider, registry, rule or project on all replicas, now and for a time
    Stop(stop::Stop),
    /// List or count events of the audit log: who published what, who was refused and why. Exits with 1 if a line cannot be read
    Audit(audit::Audit),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What a verb ends with: whether the answer was yes.
type Ended = Result<bool, Failed>;

/// Why a verb could not do its work: what happened, and what to do.
#[derive(Debug)]
pub(crate) struct Failed(String);

impl Failed {
    /// A failure in words.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The failure, and what else is wrong.
    pub(crate) fn and(self, more: Option<impl Display>) -> Self {
        match more {
            Some(more) => Self(format!("{}\n{more}", self.0)),
            None => self,
        }
    }

    /// A failed operation on a file.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self(format!("`{}`: {error}", path.display()))
    }
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Parses the command line, does what it says and answers with the exit code.
pub fn run() -> ExitCode {
    let ended = match Arguments::parse().verb {
        Verb::Serve(serve) => serve.run(),
        Verb::Demo(demo) => demo.run(),
        Verb::Check(check) => check.run(),
        Verb::Health(health) => health.run(),
        Verb::Policy(policy) => policy.run(),
        Verb::Issuer(issuer) => issuer.run(),
        Verb::Keys(keys) => keys.run(),
        Verb::Probe(probe) => probe.run(),
        Verb::Token(token) => token.run(),
        Verb::Stop(stop) => stop.run(),
        Verb::Audit(audit) => audit.run(),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "trustmint", &mut io::stdout());
            Ok(true)
        }
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failed(message)) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output. A closed pipe (`trustmint … | head`) is no error.
pub(crate) fn say(text: &str) {
    let _closed = writeln!(io::stdout().lock(), "{text}");
}

/// Prints to standard error.
pub(crate) fn complain(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "error: {text}");
}

/// Prints what is worth knowing beside the answer to standard error.
pub(crate) fn note(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "note: {text}");
}

/// Prints how far the reading of a large policy is, to standard error.
pub(crate) fn tell_progress(rules: usize) {
    let _closed = writeln!(io::stderr().lock(), "reading the policy: {rules} rules so far");
}

/// Prints a value for programs, on a terminal as harmless as any other line.
pub(crate) fn say_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value)?;
    // Line feeds stand between members, never inside a string.
    let lines: Vec<_> = text.lines().map(escape_json).collect();
    say(&lines.join("\n"));
    Ok(())
}

/// Reads a small text from a file, or from standard input when the path is `-` or missing.
///
/// SECURITY: other users of the machine can read arguments, and the message that a file is missing would repeat one that
/// is a token. What is too long for the name of a file is taken for a token that was cut off.
pub(crate) fn read_input(path: Option<&PathBuf>) -> Result<String, Failed> {
    const MOST: u64 = 64 * 1024;
    let named = path.map(|path| path.to_string_lossy()).unwrap_or_default();
    let is_token = Unverified::parse(&named).is_ok() || UnverifiedToken::parse(&named).is_ok();
    if is_token || named.split('/').any(|name| name.len() > 255) {
        return Err(Failed::new(
            "a file is named there; a token is given on standard input or in a file, since others can read arguments",
        ));
    }
    let mut text = String::new();
    match path.filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| Failed::file(path, &error))?;
            file.take(MOST).read_to_string(&mut text).map_err(|error| Failed::file(path, &error))?;
        }
        None => {
            io::stdin().take(MOST).read_to_string(&mut text)?;
        }
    }
    Ok(text)
}
