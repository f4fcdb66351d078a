use super::*;
use crate::json::Json;

#[test]
fn the_subject_and_path_follow_the_names() {
    let text = |text: &str| Json::String(text.to_owned());
    let claims = build(&Object::default().with("organization", text("octo")).with("project", text("gadgets")));
    assert_eq!(claims.get("sub"), Some(&text("org:octo:project:gadgets")));
    assert_eq!(claims.get("project_path"), Some(&text("octo/gadgets")));
}
