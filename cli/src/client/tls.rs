//! Trust in an API whose certificate is not signed by one of the web's authorities.

use std::path::Path;
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::Error;

/// Trusts the certificates of a file, and no others.
pub(super) fn trusting(file: &Path) -> Result<TlsConfig, Error> {
    let pem = std::fs::read(file).map_err(|cause| Error::file("read", file, cause))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::usage(
            format!("{} contains no certificate", file.display()),
            "give a PEM file with BEGIN CERTIFICATE",
        ));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(certificates))).build())
}
