//! The dashboard as a person uses it whose browser runs no script: pages, links, forms and a cookie.

mod access;
mod browser;
mod live;
mod pages;
mod sessions;
mod verbs;
