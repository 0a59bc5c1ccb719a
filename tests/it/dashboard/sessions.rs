//! Login and logout, and what a cookie opens.

use crunch_tests::{Stack, eventually};
use redis::AsyncCommands;
use reqwest::Method;

use super::browser::{Browser, FORM, text};
use crate::http::keys::ApiWithKeys;

#[tokio::test]
async fn a_session_is_opened_with_a_key_and_ends_with_a_logout() {
    let mut keyed = ApiWithKeys::start(&[]).await;
    let key = keyed.create_key(&["--scopes", "admin"]).await;
    let other_api = keyed.start_another_api(&[]).await;
    let mut browser = Browser::of(&keyed.api);

    let refused = browser.get("/dashboard/jobs?status=failed").await;
    assert_eq!(refused.status.as_u16(), 303);
    let login = refused.header("location").to_owned();
    assert_eq!(login, "/dashboard/login?next=%2Fdashboard%2Fjobs%3Fstatus%3Dfailed");
    let page = browser.open(&login).await;
    let entered = browser.send_form(&page, "/dashboard/session", &[("key", &key)]).await;
    assert_eq!(
        (entered.status.as_u16(), entered.header("location")),
        (303, "/dashboard/jobs?status=failed")
    );
    let cookie = entered.header("set-cookie").to_owned();
    assert!(
        cookie.starts_with("crunch=")
            && cookie.ends_with("; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );

    let page = browser.open("/dashboard").await;
    let mut elsewhere = Browser::of(&other_api);
    elsewhere.cookie = browser.cookie.clone();
    elsewhere.open("/dashboard").await;
    // Of the secret Redis has only a hash.
    let secret = cookie["crunch=".len()..].split(';').next().unwrap();
    let (mut redis, session) = keyed.stack.redis.find("session:*").await;
    let owner: String = redis.get(&session).await.unwrap();
    assert_eq!(owner, key.split('_').nth(1).unwrap());
    assert!(!session.contains(secret));
    let left: u64 = redis.ttl(&session).await.unwrap();
    assert!((28_000..=28_800).contains(&left), "{left}");
    keyed.stack.assert_clean_audit().await;

    let left = browser.send_form(&page, "/dashboard/logout", &[]).await;
    assert_eq!((left.status.as_u16(), left.header("location")), (303, "/dashboard/login"));
    assert!(left.header("set-cookie").starts_with("crunch=; Path=/; Max-Age=0;"));
    let mut thief = Browser::of(&keyed.api);
    thief.cookie = elsewhere.cookie.clone();
    assert_eq!(thief.get("/dashboard").await.status.as_u16(), 303);
    let exists: bool = redis.exists(&session).await.unwrap();
    assert!(!exists);
    eventually("another API forgets the session", async || {
        (elsewhere.get("/dashboard").await.status == 303).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let keyed = ApiWithKeys::start(&[]).await;
    let key = keyed.create_key(&["--scopes", "read"]).await;
    let mut browser = Browser::with_key(&keyed.api, &key).await;
    browser.open("/dashboard").await;

    keyed.revoke(&key).await;
    eventually("the session has ended", async || {
        (browser.get("/dashboard").await.status == 303).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cookie_opens_no_route_of_the_api_and_a_key_no_page() {
    let keyed = ApiWithKeys::start(&[]).await;
    let key = keyed.create_key(&["--scopes", "admin"]).await;
    let mut browser = Browser::with_key(&keyed.api, &key).await;

    for path in ["/jobs", "/queues", "/workers", "/system", "/metrics", "/"] {
        assert_eq!(browser.get(path).await.status.as_u16(), 401, "{path}");
    }
    let pause = browser.request(Method::POST, "/queues/q/pause").header("origin", &keyed.api.url);
    assert_eq!(browser.send(pause).await.status.as_u16(), 401);
    // Of a key a proxy may know, and a page of another site must not make use of it: it is for the API.
    let bearer = keyed.api.request(Method::GET, "/dashboard/queues").bearer_auth(&key);
    let page = text(&keyed.api.send(bearer).await);
    assert!(page.contains("API key") && !page.contains("<table"), "{page}");
}

#[tokio::test]
async fn failed_logins_are_limited_and_lock_nobody_out() {
    let keyed = ApiWithKeys::start(&[]).await;
    let key = keyed.create_key(&["--scopes", "read"]).await;
    let mut browser = Browser::of(&keyed.api);
    let forged = format!("{}{}", &key[..20], "a".repeat(38));

    for wrong in [forged.as_str(), "nonsense", ""].into_iter().cycle().take(10) {
        let answer = browser.log_in(wrong).await;
        assert_eq!(answer.status.as_u16(), 401, "{wrong}");
        assert!(answer.headers.get("set-cookie").is_none());
        assert!(text(&answer).contains("The API key is not valid."));
    }
    let limited = browser.log_in(&forged).await;
    assert_eq!(limited.status.as_u16(), 429);
    let wait: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=7).contains(&wait), "{wait}");
    assert_eq!(
        browser.log_in(&key).await.status.as_u16(),
        303,
        "a valid key is no attempt to guess"
    );
}

#[tokio::test]
async fn without_keys_everybody_is_in_and_forms_are_bound_to_the_browser() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let (mut one, mut other) = (Browser::of(&api), Browser::of(&api));
    let (page, foreign) =
        (one.open("/dashboard/queues/echo").await, other.open("/dashboard/queues/echo").await);
    assert!(one.cookie.is_some() && one.cookie != other.cookie);
    assert!(!page.contains("/dashboard/logout"));

    let refused = one.send_form(&foreign, "/dashboard/queues/echo/pause", &[]).await;
    assert_eq!(refused.status.as_u16(), 403);
    let paused = one.send_form(&page, "/dashboard/queues/echo/pause", &[]).await;
    assert_eq!(paused.status.as_u16(), 303);
    assert_eq!(api.get("/queues/echo").await.json()["paused"], true);
}

#[tokio::test]
async fn with_tls_the_cookie_is_for_this_host_only() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_PUBLIC_URL", "https://crunch.example.com")]).await;
    let mut browser = Browser::of(&api);

    let answer = browser.get("/dashboard").await;

    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-crunch=") && cookie.ends_with("; SameSite=Strict; Secure"));
}

#[tokio::test]
async fn a_form_of_another_page_changes_nothing() {
    let keyed = ApiWithKeys::start(&[("CRUNCH_API_CORS_ORIGINS", "https://app.example.com")]).await;
    let key = keyed.create_key(&["--scopes", "admin"]).await;
    keyed.post(&key, "/jobs", &serde_json::json!({ "task": "t" })).await;
    let mut browser = Browser::with_key(&keyed.api, &key).await;
    let page = browser.open("/dashboard/queues/t").await;
    let action = "/dashboard/queues/t/pause";
    let body = super::browser::encoded(&super::browser::form(&page, action).unwrap());
    let own = keyed.api.url.clone();
    let send = |headers: &[(&str, &str)], body: &str| {
        let mut request = browser.request(Method::POST, action).header("content-type", FORM);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        keyed.api.send(request.body(body.to_owned()))
    };

    // Without Origin and Sec-Fetch-Site nothing shows that one of our pages sent it.
    for headers in [
        &[][..],
        &[("origin", "null")],
        &[("origin", "https://evil.example")],
        &[("origin", "https://app.example.com")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
        &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
    ] {
        assert_eq!(send(headers, &body).await.status.as_u16(), 403, "{headers:?}");
    }
    for body in ["", "token=", "token=00", &format!("{body}0"), &body.replace("token", "tokens")] {
        let answer = send(&[("origin", &own)], body).await;
        assert_eq!(answer.status.as_u16(), 403, "{body}");
    }
    let queue = keyed.send(&key, "GET", "/queues/t").await.json();
    assert_eq!(queue["paused"], false);
    let accepted = send(&[("sec-fetch-site", "same-origin")], &body).await;
    assert_eq!(accepted.status.as_u16(), 303);
    // A login from another site would put a person into the session of somebody else.
    let login = keyed.api.request(Method::POST, "/dashboard/session").header("content-type", FORM);
    assert_eq!(keyed.api.send(login.body(format!("key={key}"))).await.status.as_u16(), 403);
}
