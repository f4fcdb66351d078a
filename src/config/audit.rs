//! Whether the audit log can be opened: what is wrong with where the settings have it, before and after that is tried.

use std::io;
use std::path::Path;

use super::Audit;
use super::AuditTarget;
use crate::audit::NoThread;
use crate::audit::destination;
use crate::audit::destination::Unfit;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;

impl Audit {
    /// Whether its file can be opened, if it is one, for who does not: it is neither made nor written.
    pub fn check(&self) -> Result<(), Faults> {
        self.judged(destination::judge)
    }

    /// Whether it surely cannot be opened, for who opens it when all else is sound.
    pub fn check_before_opening(&self) -> Result<(), Faults> {
        self.judged(destination::judge_before_opening)
    }

    fn judged(&self, judge: fn(&Path) -> Result<(), Unfit>) -> Result<(), Faults> {
        match &self.target {
            AuditTarget::File(path) => judge(path).map_err(|unfit| self.unopened(&unfit)),
            AuditTarget::Stdout | AuditTarget::Otlp => Ok(()),
        }
    }

    /// What is wrong if the log could not be started, and what to do.
    pub fn unstarted_by(&self, error: io::Error) -> String {
        match error.downcast::<NoThread>() {
            // No setting is at fault, and least of all where the log is.
            Ok(error) => format!("{error} — {}", NoThread::REMEDY),
            Err(error) => self.unopened(&Unfit::from(error)).to_string(),
        }
    }

    fn unopened(&self, unfit: &Unfit) -> Faults {
        let (place, key, remedy) = match &self.target {
            AuditTarget::File(path) => (path.display().to_string(), "audit.file", unfit.remedy()),
            AuditTarget::Stdout | AuditTarget::Otlp => {
                ("settings".to_owned(), "audit.sink", "let the service open more files at once (`ulimit -n`)")
            }
        };
        let mut faults = Faults::new();
        faults.push(Place::whole(place.into()), key.to_owned(), format!("cannot be opened: {unfit}"), remedy);
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditLog;
    use crate::audit::AuditSink;

    #[test]
    fn what_has_become_of_the_file_since_it_was_judged_is_told_as_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        for (path, words) in [
            (folder.path().to_owned(), "audit.file: cannot be opened: it is a folder — name a file, or a pipe"),
            (missing.join("audit.jsonl"), " — make the folder, in which the service's user may make files"),
        ] {
            let audit = Audit { target: AuditTarget::File(path.clone()), capacity: 64 };
            let error = AuditLog::start(AuditSink::File(path), 64).unwrap_err();
            let told = audit.unstarted_by(error);
            assert!(told.contains(words), "{told}");
            assert_eq!(told, audit.check().unwrap_err().to_string(), "as before it is opened");
        }
    }

    #[test]
    fn a_standard_output_that_cannot_be_opened_is_no_fault_of_a_file() {
        let audit = Audit { target: AuditTarget::Stdout, capacity: 64 };
        let told = audit.unstarted_by(io::Error::from_raw_os_error(24));
        assert!(told.starts_with("settings: audit.sink: cannot be opened: Too many open files"), "{told}");
        assert!(told.ends_with(" — let the service open more files at once (`ulimit -n`)"), "{told}");
    }
}
