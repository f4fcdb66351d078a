//! The audit log's file, before anybody opens it.

use std::io;
use std::path::Path;

use super::Audit;
use super::AuditTarget;
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

    /// What is wrong if it could not be opened.
    pub fn unopened_by(&self, error: io::Error) -> Faults {
        self.unopened(&Unfit::from(error))
    }

    fn unopened(&self, unfit: &Unfit) -> Faults {
        let place = match &self.target {
            AuditTarget::File(path) => path.display().to_string(),
            AuditTarget::Stdout | AuditTarget::Otlp => "settings".to_owned(),
        };
        let mut faults = Faults::new();
        let place = Place::whole(place.into());
        faults.push(place, "audit.file".to_owned(), format!("cannot be opened: {unfit}"), unfit.remedy());
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
            let told = audit.unopened_by(error).to_string();
            assert!(told.contains(words), "{told}");
            assert_eq!(told, audit.check().unwrap_err().to_string(), "as before it is opened");
        }
    }
}
