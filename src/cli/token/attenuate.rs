//! `trustmint token attenuate`: a copy of a token that allows less, for the moment in which it could be stolen.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgGroup;
use clap::Args;
use ipnet::IpNet;

use super::artifact::Artifact;
use super::read_token;
use super::value;
use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::macaroon::Caveat;
use crate::macaroon::Held;
use crate::macaroon::Restriction;
use crate::package::Ecosystem;
use crate::package::PackageName;
use crate::package::Permission;
use crate::package::Permissions;
use crate::policy::dialect::Dialect;
use crate::time::Clock as _;
use crate::time::SystemClock;
use crate::time::Timestamp;

#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
#[command(group = ArgGroup::new("restriction").required(true).multiple(true)
    .args(["package", "allow", "version", "file", "sha256", "max_size", "time_before", "expires_in", "ip"]))]
pub(crate) struct Attenuate {
    /// The file with the token [default: standard input]
    #[arg(value_name = "FILE")]
    token: Option<PathBuf>,
    /// Only what the token allows on this package
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
    /// Only this action on this package or pattern, as `upload:widgets` or `upload:widgets-*`
    #[arg(long, value_name = "ACTION:PATTERN", conflicts_with = "package")]
    allow: Vec<String>,
    /// How the registry's packages are named: `pypi`, `npm`, … [default: by the token's prefix, else `generic`]
    #[arg(long, value_name = "NAME", value_parser = value::ecosystem)]
    ecosystem: Option<Ecosystem>,
    /// Only this version, as the registry spells it
    #[arg(long, value_name = "VERSION", value_parser = value::version)]
    version: Vec<String>,
    /// Only this very file: its SHA-256, and at most its size
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sha256", "max_size"])]
    file: Vec<PathBuf>,
    /// Only the file with this SHA-256
    #[arg(long, value_name = "HEX", value_parser = value::sha256)]
    sha256: Vec<[u8; 32]>,
    /// Only files of at most so many bytes
    #[arg(long, value_name = "BYTES")]
    max_size: Option<u64>,
    /// Only before this moment, as `2026-11-23T00:15:00Z`
    #[arg(long, value_name = "MOMENT", value_parser = value::moment, conflicts_with = "expires_in")]
    time_before: Option<Timestamp>,
    /// Only for so long from now, as `90s` or `5m`
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    expires_in: Option<Duration>,
    /// Only from this address or network, as the registry sees clients
    #[arg(long, value_name = "NETWORK", value_parser = value::network)]
    ip: Vec<IpNet>,
}

impl Attenuate {
    pub(super) fn run(self) -> Ended {
        let text = read_token(self.token.as_ref())?;
        let held = Held::parse(text.expose())?;
        let ecosystem = self.ecosystem(&held);
        let mut narrowed = None;
        for caveat in self.caveats(&held, ecosystem, SystemClock.now())? {
            let restriction = Restriction::new(ecosystem, &caveat)?;
            narrowed = Some(narrowed.as_ref().unwrap_or(&held).narrow(&restriction)?);
        }
        say(narrowed.unwrap_or(held).to_text()?.expose());
        Ok(true)
    }

    /// A token does not say how its registry names packages. A wrong guess makes a copy that allows less, never more.
    fn ecosystem(&self, held: &Held) -> Ecosystem {
        let usual = Dialect::ALL.into_iter().find(|dialect| dialect.token_prefix() == held.prefix());
        self.ecosystem.unwrap_or_else(|| usual.map_or(Ecosystem::Generic, Dialect::ecosystem))
    }

    fn caveats(&self, held: &Held, ecosystem: Ecosystem, now: Timestamp) -> Result<Vec<Caveat>, Failed> {
        let files: Vec<Artifact> = self.file.iter().map(|path| Artifact::read(path)).collect::<Result<_, _>>()?;
        let digests = self.sha256.iter().copied().chain(files.iter().map(|file| file.sha256));
        let size = self.max_size.or(files.iter().map(|file| file.size).max());
        let caveats = [
            self.permissions(held, ecosystem)?.map(Caveat::Allow),
            listed(self.version.iter().cloned()).map(Caveat::Version),
            listed(digests).map(Caveat::Sha256),
            size.map(Caveat::MaxSize),
            self.end(now)?.map(Caveat::TimeBefore),
            listed(self.ip.iter().copied()).map(Caveat::Ip),
        ];
        Ok(caveats.into_iter().flatten().collect())
    }

    /// What the token is narrowed to, if to any packages. A pair that the token does not have would make a copy that
    /// allows nothing, which the job would find out from the registry.
    fn permissions(&self, held: &Held, ecosystem: Ecosystem) -> Result<Option<Permissions>, Failed> {
        let mut wanted = Permissions::default();
        for text in &self.package {
            let package = PackageName::parse(ecosystem, text)
                .map_err(|error| Failed::new(format!("--package {error}; is --ecosystem the registry's?")))?;
            let pairs = held.allowed_on(ecosystem, &package)?;
            if pairs.is_empty() {
                return Err(not_allowed(held, ecosystem, &format!("anything on `{package}`")));
            }
            wanted.extend(&pairs);
        }
        for text in &self.allow {
            let pair = Permission::parse(ecosystem, text).ok_or_else(|| {
                Failed::new(
                    "--allow takes an action and a package or pattern, as `upload:widgets` or `upload:widgets-*`",
                )
            })?;
            if !held.allows_all_of(ecosystem, &pair)? {
                return Err(not_allowed(held, ecosystem, &format!("`{pair}`")));
            }
            wanted.extend(&[pair].into_iter().collect());
        }
        Ok((!wanted.is_empty()).then_some(wanted))
    }

    fn end(&self, now: Timestamp) -> Result<Option<Timestamp>, Failed> {
        // Whole seconds, and rather earlier than asked for.
        let after = |time| Timestamp::from_unix_seconds(now.plus(time).unix_seconds());
        let end = self.time_before.or(self.expires_in.map(after));
        match end {
            Some(end) if end <= now => Err(Failed::new(format!("{end} is past; a copy that ends then is worthless"))),
            end => Ok(end),
        }
    }
}

fn not_allowed(held: &Held, ecosystem: Ecosystem, what: &str) -> Failed {
    let allows = held.allows(ecosystem).unwrap_or_default();
    let allows: Vec<String> = allows.iter().map(ToString::to_string).collect();
    Failed::new(format!(
        "the token does not allow {what}, but {}; write names as the registry does, or name its --ecosystem",
        allows.join(" and ")
    ))
}

/// A list of alternatives, if there are any: an empty one would let nothing pass.
fn listed<T: Ord>(items: impl Iterator<Item = T>) -> Option<BTreeSet<T>> {
    let set: BTreeSet<T> = items.collect();
    (!set.is_empty()).then_some(set)
}
