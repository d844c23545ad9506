//! Kryoptic: a second software token, by other people than SoftHSM's, which locks its PIN as
//! hardware does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    failure::{Doing, Failure},
    token::Token,
};

/// A blank token of Kryoptic whose files lie in `directory`.
///
/// # Errors
///
/// It is not built, or the directory cannot be written.
pub fn token(directory: &Path) -> Result<Token, Failure> {
    let configuration = directory.join("kryoptic.conf");
    let text = format!(
        "[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
        directory.join("token.sql").display()
    );
    fs::write(&configuration, text).doing("write kryoptic.conf")?;
    // Kryoptic has Ed25519 only with OpenSSL 3.2, and Debian 12 has 3.0.
    let token = Token { blank: true, without_ed25519: true, ..Token::new(&module()?) };
    Ok(token.told("KRYOPTIC_CONF", &configuration))
}

/// The module, which its own workspace builds into a directory of its own.
fn module() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().doing("find this program")?;
    let built = |target: &Path| target.join("kryoptic/debug/libchancery_kryoptic.so");
    // A test lies in target/PROFILE/deps.
    let found = own.ancestors().skip(1).take(3).map(built).find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::new("Kryoptic is not built").hint("run `make kryoptic`, or `make test`")
    })
}
