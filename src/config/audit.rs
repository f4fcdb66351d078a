//! The audit log's file, before anybody opens it.

use super::Audit;
use super::AuditTarget;
use crate::audit::destination;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;

impl Audit {
    /// Whether its file can be opened, if it is one. It is neither made nor written.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = Faults::new();
        if let AuditTarget::File(path) = &self.target
            && let Err(unfit) = destination::judge(path)
        {
            let place = Place::whole(path.display().to_string().into());
            faults.push(place, "audit.file".to_owned(), format!("cannot be opened: {unfit}"), unfit.remedy());
        }
        faults.into_result(Some(()))
    }
}
