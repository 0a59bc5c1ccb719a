//! A browser without script: keeps the cookie, follows links, and sends the forms that are on a page.

use crunch_tests::{Answer, Api};
use reqwest::header::{COOKIE, SET_COOKIE};
use reqwest::{Client, Method, RequestBuilder};

/// The browser of one person.
pub(crate) struct Browser {
    client: Client,
    url: String,
    pub(super) cookie: Option<String>,
}

/// A tag of a page: its name, and its attributes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
}

impl Browser {
    pub(crate) fn of(api: &Api) -> Self {
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Self { client: client.build().unwrap(), url: api.url.clone(), cookie: None }
    }

    /// Logs in with a key.
    pub(super) async fn with_key(api: &Api, key: &str) -> Self {
        let mut browser = Self::of(api);
        let answer = browser.log_in(key).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/dashboard"));
        browser
    }

    pub(super) async fn log_in(&mut self, key: &str) -> Answer {
        let page = self.get("/dashboard/login").await;
        self.send_form(&text(&page), "/dashboard/session", &[("key", key)]).await
    }

    /// Starts a request as the browser sends it.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.cookie {
            Some(cookie) => request.header(COOKIE, cookie),
            None => request,
        }
    }

    /// Sends a request, and keeps the cookie of the answer.
    pub(super) async fn send(&mut self, request: RequestBuilder) -> Answer {
        let answer = Answer::to(request).await;
        if let Some(set) = answer.headers.get(SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let has_value = !pair.ends_with('=');
            self.cookie = has_value.then(|| pair.to_owned());
        }
        answer
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Opens a page that must exist; returns its HTML.
    pub(crate) async fn open(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        let html = text(&answer);
        assert_eq!(answer.status.as_u16(), 200, "{path}: {html}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{path}");
        html
    }

    /// Sends the form of a page that has this action, with what the person typed.
    pub(super) async fn send_form(
        &mut self,
        page: &str,
        action: &str,
        typed: &[(&str, &str)],
    ) -> Answer {
        let fields = form(page, action).unwrap_or_else(|| panic!("no form {action} in {page}"));
        let typed = typed.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let hidden =
            fields.into_iter().filter(|(name, _)| !typed.clone().any(|(typed, _)| typed == *name));
        let all: Vec<_> = hidden.chain(typed.clone()).collect();
        self.post(action, &all).await
    }

    /// Sends fields as a page of the API itself does.
    pub(super) async fn post(&mut self, path: &str, fields: &[(String, String)]) -> Answer {
        let request = self.request(Method::POST, path).header("origin", &self.url);
        self.send(request.header("content-type", FORM).body(encoded(fields))).await
    }
}

/// The content type of a form.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

pub(super) fn encoded(fields: &[(String, String)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Text as a part of a query or a form.
pub(super) fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(escape).collect()
}

pub(super) fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The fields of the form with this action, with the values that they have on the page; `None` if there is none.
pub(super) fn form(page: &str, action: &str) -> Option<Vec<(String, String)>> {
    let start =
        page.find(&format!("<form method=\"post\" action=\"{action}\">")).or_else(|| {
            let end = page.find(&format!(" method=\"post\" action=\"{action}\">"))?;
            page[..end].rfind("<form")
        })?;
    let form = &page[start..];
    let form = &form[..form.find("</form>").unwrap()];
    let inputs = tags(form).into_iter().filter(|tag| tag.name == "input");
    let field = |tag: Tag| Some((tag.get("name")?.to_owned(), tag.get("value")?.to_owned()));
    Some(inputs.filter_map(field).collect())
}

impl Tag {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let attribute = self.attributes.iter().find(|(attribute, _)| attribute == name);
        attribute.map(|(_, value)| value.as_str())
    }
}

/// The start tags of a page, as a browser reads them.
pub(super) fn tags(html: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if rest.starts_with(|next: char| next.is_ascii_alphabetic()) {
            let (tag, after) = tag(rest);
            tags.push(tag);
            rest = after;
        }
    }
    tags
}

fn tag(text: &str) -> (Tag, &str) {
    let end = text.find(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/').unwrap();
    let (name, mut rest) = text.split_at(end);
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if let Some(after) = rest.strip_prefix('>') {
            return (Tag { name: name.to_ascii_lowercase(), attributes }, after);
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace() || "=>/".contains(c)).unwrap();
        let (name, after) = rest.split_at(end);
        let (value, after) = match after.strip_prefix("=\"") {
            Some(value) => value.split_once('"').unwrap(),
            None => ("", after),
        };
        attributes.push((name.to_ascii_lowercase(), unescaped(value)));
        rest = after;
    }
}

/// Replaces the references that templates write.
pub(super) fn unescaped(text: &str) -> String {
    let replaced = [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'")]
        .into_iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    replaced.replace("&amp;", "&").replace("&#38;", "&")
}
