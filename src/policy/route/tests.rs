//! Which requests a route lists, and that nothing else gets through.

use super::*;

fn routes(routes: &[(&str, &str, &str)]) -> Routes {
    let route = |(method, path, action): &(&str, &str, &str)| Route {
        method: (*method).to_owned(),
        path: Template::parse(path).unwrap(),
        action: Action::parse(action).unwrap(),
    };
    Routes { proxy: Proxy::Nginx, allow: routes.iter().map(route).collect(), scopes: false }
}

fn files() -> Routes {
    routes(&[
        ("PUT", "/files/{package}/{version}/{*}", "upload"),
        ("DELETE", "/files/{package}/{version}", "delete"),
        ("GET", "/blobs/{package}/{**}", "read"),
    ])
}

#[test]
fn a_listed_request_names_its_package_and_version() {
    let asked = |action: &str, package: &str, version: Option<&str>| {
        let (action, version) = (Action::parse(action).unwrap(), version.map(str::to_owned));
        Ok(Asked { action, package: package.to_owned(), version })
    };
    let routes = files();
    assert_eq!(routes.resolve("PUT", "/files/widgets/1.0/w.tgz"), asked("upload", "widgets", Some("1.0")));
    assert_eq!(routes.resolve("PUT", "/files/w/1.0+a/w~1"), routes.resolve("PUT", "/files/w/1.0%2Ba/w%7e1"));
    assert_eq!(routes.resolve("PUT", "/files/@w/1/x"), asked("upload", "@w", Some("1")));
    assert_eq!(routes.resolve("PUT", "/files/%40w/1/x"), asked("upload", "@w", Some("1")));
    assert_eq!(routes.resolve("DELETE", "/files/widgets/1.0"), asked("delete", "widgets", Some("1.0")));
    assert_eq!(routes.resolve("GET", "/blobs/widgets/a/b/c"), asked("read", "widgets", None));
}

#[test]
fn what_two_programs_could_read_differently_is_refused() {
    let routes = files();
    let long = format!("/files/widgets/1.0/{}", "a".repeat(MAX_TARGET));
    let deep = format!("/blobs/widgets{}", "/a".repeat(MAX_SEGMENTS));
    for target in [
        "",
        "files/widgets/1.0/f",
        "*",
        "http://other.example/files/widgets/1.0/f",
        "//files/widgets/1.0/f",
        "/files//widgets/1.0/f",
        "/files/widgets/1.0/",
        "/files/widgets/1.0//f",
        "/files/widgets/1.0/f/",
        "/files/./1.0/f",
        "/files/../1.0/f",
        "/files/widgets/../f",
        "/files/widgets/1.0/..",
        "/files/widgets/1.0/.",
        "/files/widgets/1.0/...",
        "/files/widgets/1.0/f.",
        "/files/widgets./1.0/f",
        "/files/%2e%2e/1.0/f",
        "/files/%2E./1.0/f",
        "/files/widgets/1.0/%2e%2e",
        "/files/%252e%252e/1.0/f",
        "/files/%25/1.0/f",
        "/files/widgets%2f1.0/f/x",
        "/files/widgets%2F..%2Fgadgets/1.0/f",
        "/files/widgets%5cgadgets/1.0/f",
        "/files/widgets\\gadgets/1.0/f",
        "/files/widgets/1.0/f%00",
        "/files/widgets/1.0/f\0",
        "/files/widgets/1.0/f%0d%0a",
        "/files/widgets/1.0/f\n",
        "/files/widgets/1.0/f%20",
        "/files/widgets/1.0/f ",
        "/files/widgets;v=1/1.0/f",
        "/files/widgets/1.0/f;jsessionid=1",
        "/files/widgets%3b/1.0/f",
        "/files/wi%64gets/1.0/f",
        "/files/widgets/1.0/f?",
        "/files/widgets/1.0/f?package=gadgets",
        "/files/widgets/1.0/f#x",
        "/files/widgets/1.0/f%3fx",
        "/files/wïdgets/1.0/f",
        "/files/w\u{ff0f}idgets/1.0/f",
        "/files/w%c3%afdgets/1.0/f",
        "/files/w%c0%af/1.0/f",
        "/files/w%/1.0/f",
        "/files/w%2/1.0/f",
        "/files/w%zz/1.0/f",
        "/files/w%u002f/1.0/f",
        "/files/w*/1.0/f",
        "/files/w:x/1.0/f",
        "/files/w|x/1.0/f",
        "/files/w'/1.0/f",
        "/files/{package}/1.0/f",
        &long,
        &deep,
    ] {
        for method in ["PUT", "DELETE", "GET"] {
            let refused = routes.resolve(method, target);
            assert!(matches!(refused, Err(RouteError::NotPlain(_))), "{method} {target:?}: {refused:?}");
        }
    }
}

#[test]
fn what_is_not_listed_is_refused() {
    let routes = files();
    for (method, target) in [
        ("POST", "/files/widgets/1.0/f"),
        ("put", "/files/widgets/1.0/f"),
        ("PUT ", "/files/widgets/1.0/f"),
        ("", "/files/widgets/1.0/f"),
        ("GET", "/files/widgets/1.0/f"),
        ("HEAD", "/blobs/widgets/a"),
        ("PUT", "/files/widgets/1.0"),
        ("PUT", "/files/widgets/1.0/f/g"),
        ("PUT", "/Files/widgets/1.0/f"),
        ("PUT", "/files2/widgets/1.0/f"),
        ("PUT", "/x/files/widgets/1.0/f"),
        ("DELETE", "/files/widgets"),
        ("GET", "/blobs/widgets"),
        ("GET", "/blobs"),
    ] {
        assert_eq!(routes.resolve(method, target), Err(RouteError::NotListed), "{method} {target}");
    }
    let two = self::routes(&[("PUT", "/a/{package}/{*}", "upload"), ("PUT", "/{package}/b/{*}", "delete")]);
    assert_eq!(two.resolve("PUT", "/a/b/c"), Err(RouteError::Ambiguous));
    assert!(two.resolve("PUT", "/a/x/c").is_ok() && two.resolve("PUT", "/x/b/c").is_ok());
}

#[test]
fn a_template_names_one_package_in_plain_segments() {
    for text in ["/{package}", "/a.b/{package}/{version}/{*}/{**}", "/@x/{package}/c"] {
        assert_eq!(Template::parse(text).unwrap().to_string(), text);
    }
    for (text, error) in [
        ("", TemplateError::NotPlain),
        ("{package}", TemplateError::NotPlain),
        ("/", TemplateError::NotPlain),
        ("//{package}", TemplateError::NotPlain),
        ("/{package}/", TemplateError::NotPlain),
        ("/../{package}", TemplateError::NotPlain),
        ("/a%40/{package}", TemplateError::NotPlain),
        ("/a b/{package}", TemplateError::NotPlain),
        ("/a?x/{package}", TemplateError::NotPlain),
        ("/a/b", TemplateError::Package),
        ("/{package}/{package}", TemplateError::Package),
        ("/{package}/{version}/{version}", TemplateError::Version),
        ("/{package}.tgz", TemplateError::UnknownPlace),
        ("/{Package}", TemplateError::UnknownPlace),
        ("/{name}/{package}", TemplateError::UnknownPlace),
        ("/{**}/{package}", TemplateError::Rest),
        ("/{package}/{**}/{**}", TemplateError::Rest),
    ] {
        assert_eq!(Template::parse(text), Err(error), "{text}");
    }
}

#[test]
fn a_scoped_name_is_one_segment_where_packages_have_scopes_and_only_a_package() {
    let npm = |scopes: bool| Routes {
        scopes,
        ..routes(&[
            ("PUT", "/{package}", "upload"),
            ("PUT", "/{package}/-rev/{*}", "delete"),
            ("PUT", "/-/package/{package}/dist-tags/{*}", "tag"),
            ("GET", "/{package}/-/{**}", "read"),
        ])
    };
    let package = |method: &str, target: &str| npm(true).resolve(method, target).map(|asked| asked.package);
    for target in ["/@acme%2fwidgets", "/@acme%2Fwidgets", "/%40acme%2fwidgets"] {
        assert_eq!(package("PUT", target), Ok("@acme/widgets".to_owned()), "{target}");
        assert!(matches!(npm(false).resolve("PUT", target), Err(RouteError::NotPlain(_))), "{target}");
    }
    assert_eq!(package("PUT", "/widgets"), Ok("widgets".to_owned()));
    assert_eq!(package("PUT", "/@acme%2fwidgets/-rev/1-x"), Ok("@acme/widgets".to_owned()));
    assert_eq!(package("PUT", "/-/package/@acme%2fwidgets/dist-tags/next"), Ok("@acme/widgets".to_owned()));
    assert_eq!(package("GET", "/@acme%2fwidgets/-/widgets-1.0.0.tgz"), Ok("@acme/widgets".to_owned()));
    for (method, target) in [
        ("PUT", "/acme%2fwidgets"),
        ("PUT", "/@acme%2f"),
        ("PUT", "/@%2fwidgets"),
        ("PUT", "/@acme%2f%2fwidgets"),
        ("PUT", "/@acme%2fwidgets%2fx"),
        ("PUT", "/@acme%2f.."),
        ("PUT", "/@..%2fwidgets"),
        ("PUT", "/@acme%252fwidgets"),
        ("PUT", "/%2540acme%2fwidgets"),
        ("PUT", "/@acme%5cwidgets"),
        ("PUT", "/@acme/widgets"),
        ("PUT", "/widgets/-rev/@acme%2fx"),
        ("PUT", "/@acme%2fwidgets/-rev/@acme%2fx"),
        ("PUT", "/-/package/widgets/dist-tags/@acme%2fx"),
        ("GET", "/widgets/-/@acme%2fx"),
        ("GET", "/widgets/-/a/@acme%2fx"),
        ("PUT", "/@acme%2f-/package/widgets/dist-tags/x"),
    ] {
        assert!(npm(true).resolve(method, target).is_err(), "{method} {target}");
    }
}
