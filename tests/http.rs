//! Tokens in HTTP headers: how they are read, and how PostgREST is answered.

use api_tokens_tests::*;
use postgres::Client;

fn from_header(sql: &mut Client, header: &str) -> Option<String> {
    maybe(sql, "SELECT api_token_from_header($1)", &[&header])
}

#[test]
fn a_bearer_token_is_read_and_nothing_else_is() {
    let db = Database::new();
    let mut sql = db.connect();
    for good in ["Bearer t0k", "bearer t0k", "BEARER    t0k", "BeArEr t0k ", "\tBearer t0k"] {
        assert_eq!(from_header(&mut sql, good).as_deref(), Some("t0k"), "{good:?}");
    }
    let long = format!("Bearer {}", "a".repeat(1 << 20));
    for bad in [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "t0k",
        "Bearert0k",
        "Basic dDBr",
        "Token t0k",
        "Bearer t0k\n",
        "Bearer t0k\r\nX: y",
        "Bearer\tt0k",
        "Bearer one two",
        "Bearer one, Bearer two",
        "Bearer one,two",
        "Bearer tök",
        "Bearer t0k\u{a0}",
        "Bearer \u{1f511}",
        &long,
    ] {
        assert_eq!(from_header(&mut sql, bad), None, "{:?}", &bad[..bad.len().min(30)]);
    }
    assert_eq!(maybe(&mut sql, "SELECT api_token_from_header(NULL)", &[]), None);
    // A header that holds none ends in `invalid`, as a missing one does.
    let reason = "SELECT reason FROM api_token_validate(api_token_from_header('Basic dDBr'))";
    assert_eq!(text(&mut sql, reason, &[]), "invalid");
}

/// As PostgREST does: one transaction, the headers as a setting of it, the request's role.
fn request(sql: &mut Client, headers: &str) -> Result<Option<String>, (String, String, String)> {
    sql.batch_execute("ROLLBACK; BEGIN").expect("begin");
    run(sql, "SELECT set_config('request.headers', $1, true)", &[&headers]);
    match sql.query("SELECT api_token_pre_request()", &[]) {
        Ok(_) => Ok(maybe(sql, "SELECT api_token_current_namespace()", &[])),
        Err(error) => {
            let error = error.as_db_error().expect("an error of the server").clone();
            let detail = error.detail().unwrap_or_default().to_owned();
            Err((error.code().code().to_owned(), error.message().to_owned(), detail))
        }
    }
}

#[test]
fn postgrest_requests_act_as_their_token_or_are_answered_401() {
    let mut db = Database::new();
    let role = db.role("web_anon", &["validate"]);
    let mut admin = db.connect();
    let made = create(&mut admin, "");
    let token = &made.token;
    let mut sql = db.connect_as(&role);
    for headers in [
        format!(r#"{{"authorization": "Bearer {token}"}}"#),
        format!(r#"{{"Authorization": "bearer   {token}", "host": "localhost"}}"#),
        format!(r#"{{"x-api-key": "{token}"}}"#),
        format!(r#"{{"X-API-Key": "{token}", "authorization": "Bearer eyJhbGciOi.JIUzI1NiJ9.x"}}"#),
    ] {
        assert_eq!(request(&mut sql, &headers), Ok(Some("acme".to_owned())), "{headers}");
    }
    let mut challenge = |refused: (String, String, String)| {
        let (code, message, detail) = refused;
        assert_eq!(code, "PGRST", "the code that PostgREST takes for an answer");
        let mut field = |json: &str, path: &str| {
            text(&mut admin, "SELECT $1::text::json #>> $2::text::text[]", &[&json, &path])
        };
        assert_eq!(field(&message, "{code}"), "28000");
        assert_eq!(field(&detail, "{status}"), "401");
        (field(&message, "{message}"), field(&detail, "{headers,WWW-Authenticate}"))
    };
    let mut refused = |headers: &str| challenge(request(&mut sql, headers).expect_err(headers));
    let known = |reason: &str| {
        (format!("Unauthorized: {reason}"), r#"Bearer error="invalid_token""#.to_owned())
    };
    assert_eq!(refused(r#"{"x-api-key": "sk_unknown"}"#), known("invalid"));
    // RFC 6750, 3.1: no error is told to a request that brought no token.
    let none = ("Unauthorized: invalid".to_owned(), "Bearer".to_owned());
    for headers in
        ["", "{}", "garbage", r#"{"authorization": "Basic dDBr"}"#, r#"{"x-api-key": "a b"}"#]
    {
        assert_eq!(refused(headers), none, "{headers}");
    }
    let mut admin = db.connect();
    run(&mut admin, "SELECT api_token_invalidate($1)", &[token]);
    assert_eq!(refused(&format!(r#"{{"x-api-key": "{token}"}}"#)), known("revoked"));
}

#[test]
fn a_limit_that_is_reached_is_no_reason_to_throw_the_token_away() {
    let db = Database::new();
    let mut sql = db.connect();
    let made = create(&mut sql, ", max_uses => 1, refill_amount => 1, refill_every => '1 hour'");
    let headers = format!(r#"{{"x-api-key": "{}"}}"#, made.token);
    assert!(request(&mut sql, &headers).is_ok());
    sql.batch_execute("COMMIT").expect("commit");
    let (code, message, detail) = request(&mut sql, &headers).expect_err("the second");
    assert!(code == "PGRST" && message.contains("usage_exceeded"), "{message}");
    assert!(detail.contains("429") && detail.contains("\"Retry-After\" : \"3"), "{detail}");
    assert!(!detail.contains("WWW-Authenticate"), "{detail}");
    sql.batch_execute("ROLLBACK; BEGIN READ ONLY").expect("begin");
    run(&mut sql, "SELECT set_config('request.headers', $1, true)", &[&headers]);
    let free = create(&mut db.connect(), ", max_uses => 1");
    run(
        &mut sql,
        "SELECT set_config('request.headers', $1, true)",
        &[&format!(r#"{{"x-api-key": "{}"}}"#, free.token)],
    );
    let unavailable = failure(&mut sql, "SELECT api_token_pre_request()", &[]);
    assert!(unavailable.detail().is_some_and(|detail| detail.contains("503")));
}

#[test]
fn without_a_request_there_is_no_token() {
    let db = Database::new();
    let mut sql = db.connect();
    let refused = failure(&mut sql, "SELECT api_token_pre_request()", &[]);
    assert_eq!(refused.code().code(), "PGRST");
}
