//! The addresses of the broker and of Matomo.

use std::fmt;
use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::error::Mistakes;

/// How many bytes the name of an AMQP user may have, and that of a virtual host: AMQP has one byte
/// for their length.
pub const MAX_USER_BYTES: usize = 255;

/// One broker address.
#[derive(Clone)]
pub struct BrokerUrl {
    /// The address as it was set, password included.
    url: SecretString,
    /// Scheme, host, port and virtual host.
    shown: String,
    /// The user's name, percent-decoded.
    user: String,
    /// Whether a connection would leave this machine unencrypted.
    leaves_in_plaintext: bool,
}

impl BrokerUrl {
    /// Reads one address. The text may hold a password, so no mistake shows any of it.
    pub(super) fn parse(text: &str) -> Result<Self, Mistakes> {
        let text = text.trim();
        let Ok(url) = Url::parse(text) else {
            return Err("not amqps://user:password@host:5671/vhost (in a password # is %23, / is \
                        %2F, @ is %40)"
                .into());
        };
        let default_port = match url.scheme() {
            "amqp" => 5672,
            "amqps" => 5671,
            _ => return Err("the scheme must be amqp or amqps".into()),
        };
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err("the host is missing".into());
        };
        let port = url.port().unwrap_or(default_port);
        if url.path() == "/" {
            return Err("a lone / at the end names a virtual host without a name: write /%2f for \
                        the default one"
                .into());
        }
        let shown = format!("{}://{host}:{port}{}", url.scheme(), url.path());
        let user =
            percent_encoding::percent_decode_str(url.username()).decode_utf8_lossy().into_owned();
        // The client library signs in as guest where no user is named.
        let user = if user.is_empty() { "guest".to_owned() } else { user };
        let vhost = percent_encoding::percent_decode_str(url.path()).count();
        if user.len() > MAX_USER_BYTES || vhost > 1 + MAX_USER_BYTES {
            return Err(format!(
                "user and virtual host have at most {MAX_USER_BYTES} bytes each in AMQP"
            )
            .into());
        }
        let leaves_in_plaintext = url.scheme() == "amqp" && !is_loopback(&url);
        Ok(Self { url: text.into(), shown, user, leaves_in_plaintext })
    }

    /// The address with its password, for the client library alone.
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }

    /// The user that the relay signs in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether a connection would leave this machine unencrypted.
    pub(super) fn leaves_in_plaintext(&self) -> bool {
        self.leaves_in_plaintext
    }

    /// Whether the user's name is in the client's certificate, where only the broker reads it.
    pub fn hides_its_user(&self) -> bool {
        self.expose().to_ascii_lowercase().contains("auth_mechanism=external")
    }
}

/// Scheme, host, port and virtual host: no user, no password.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Reads Matomo's address, and completes it to that of the tracking endpoint.
pub(super) fn matomo_url(text: &str) -> Result<Url, Mistakes> {
    let Ok(mut url) = Url::parse(text.trim()) else {
        return Err("not a URL of the form https://matomo.example.fr/".into());
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the scheme must be https or http".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end before any ? or #".into());
    }
    if !url.path().ends_with(".php") {
        let path = format!("{}/matomo.php", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

/// Whether the address is of this machine, so that nothing on the way can listen.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // A scheme that is not the web's keeps its host as text.
        Some(Host::Domain(name)) => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_room_in_amqp() {
        let parse = |user: usize, vhost: usize| {
            let (user, vhost) = ("%41".repeat(user), "v".repeat(vhost));
            BrokerUrl::parse(&format!("amqp://{user}:secret@localhost/{vhost}")).is_ok()
        };
        assert!(parse(255, 255));
        assert!(!parse(256, 1) && !parse(1, 256));
    }
}
