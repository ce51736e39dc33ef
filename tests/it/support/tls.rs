//! Certificates, good and bad, and a TLS front before a server that speaks plainly.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A private CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// To be trusted.
    pub pem: String,
}

/// A certificate and its key.
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub fn new() -> anyhow::Result<Self> {
        let mut ca = CertificateParams::new(Vec::<String>::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        ca.distinguished_name.push(DnType::CommonName, "test CA");
        let key = KeyPair::generate()?;
        let pem = ca.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(ca, key), pem })
    }

    pub fn issue(&self, subject: &str, usage: ExtendedKeyUsagePurpose) -> anyhow::Result<Identity> {
        self.sign(subject, usage, 2999)
    }

    /// A server's that was good once.
    pub fn issue_expired(&self, subject: &str) -> anyhow::Result<Identity> {
        self.sign(subject, ExtendedKeyUsagePurpose::ServerAuth, 2021)
    }

    fn sign(
        &self,
        subject: &str,
        usage: ExtendedKeyUsagePurpose,
        until: i32,
    ) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(vec![subject.to_owned()])?;
        parameters.extended_key_usages = vec![usage];
        parameters.distinguished_name.push(DnType::CommonName, subject);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(until, 1, 1);
        Ok(Identity { certificate: parameters.signed_by(&key, &self.issuer)?, key })
    }
}

/// PEM files for a broker that wants encryption and client certificates.
pub struct Certificates {
    pub folder: TempDir,
}

impl Certificates {
    /// A private CA, and a certificate each for the broker (127.0.0.1) and a client.
    pub fn generate() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new()?;
        std::fs::write(folder.path().join("ca.pem"), &authority.pem)?;
        let server = authority.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth)?;
        let client = authority.issue("relay", ExtendedKeyUsagePurpose::ClientAuth)?;
        for (name, identity) in [("server", server), ("client", client)] {
            std::fs::write(folder.path().join(format!("{name}.pem")), identity.certificate.pem())?;
            std::fs::write(
                folder.path().join(format!("{name}.key")),
                identity.key.serialize_pem(),
            )?;
        }
        Ok(Self { folder })
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The broker's configuration, with its files in `folder`.
    pub(super) fn configuration(listener: &str, folder: &str) -> String {
        format!(
            "listeners.ssl.1 = {listener}\nssl_options.cacertfile = \
             {folder}/ca.pem\nssl_options.certfile = {folder}/server.pem\nssl_options.keyfile = \
             {folder}/server.key\nssl_options.verify = \
             verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
        )
    }
}

/// Takes encrypted connections and carries them on in plain.
pub struct Front {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Front {
    pub async fn before(far: SocketAddr, identity: &Identity) -> anyhow::Result<Self> {
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let chain: Vec<CertificateDer> = vec![identity.certificate.der().clone()];
        let key =
            PrivateKeyDer::try_from(identity.key.serialize_der()).map_err(anyhow::Error::msg)?;
        let acceptor = TlsAcceptor::from(Arc::new(
            ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?,
        ));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let (Ok(mut near), Ok(mut far)) =
                        (acceptor.accept(near).await, TcpStream::connect(far).await)
                    else {
                        return;
                    };
                    let _cut = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
