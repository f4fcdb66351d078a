//! `trustmint policy schema`: the JSON Schema of policy files, for editors.

use crate::cli::Ended;
use crate::cli::say_json;

pub(super) fn run() -> Ended {
    say_json(&crate::policy::schema::policy())?;
    Ok(true)
}
