//! The main job: a CI token becomes an upload token that the registry's question confirms.

use serde_json::json;

use crate::support::Service;

#[actix_web::test]
async fn a_job_gets_a_token_that_allows_its_upload() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    assert!(token.starts_with("pypi-"));
    let question = json!({"token": token, "package": "Widgets", "exists": true, "version": "1.4.0", "size": 3});
    let answer = service.verify(&question).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["allowed"], true, "{}", answer.text);
    assert_eq!(answer.body["publisher"]["rules"], json!(["widgets-release"]));
    assert_eq!(answer.body["publisher"]["claims"]["repository"], "acme/widgets");
}
