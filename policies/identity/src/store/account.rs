//! The one account, and the mark of the bootstrap key it was made with.

use registry_sql::{Error, Tx, params};

/// The account row.
pub(crate) struct Account {
    pub(crate) account_id: String,
    /// A keyed hash of the bootstrap key, to notice a later, different one.
    pub(crate) bootstrap_mark: Vec<u8>,
}

pub(crate) fn get(tx: &Tx<'_>) -> Result<Option<Account>, Error> {
    let row =
        tx.query_optional("SELECT account_id, bootstrap_mark FROM identity_account WHERE id = 1", &[])?;
    row.map(|row| Ok(Account { account_id: row.get(0)?, bootstrap_mark: row.get(1)? })).transpose()
}

/// Creates the account; false when it exists already, and then changes nothing.
pub(crate) fn create(
    tx: &Tx<'_>,
    account_id: &str,
    bootstrap_mark: &[u8],
    now_ms: i64,
) -> Result<bool, Error> {
    let inserted = tx.execute(
        "INSERT INTO identity_account (id, account_id, created_ms, bootstrap_mark) VALUES (1, $1, $2, $3) \
         ON CONFLICT (id) DO NOTHING",
        params![account_id, now_ms, bootstrap_mark],
    )?;
    if inserted == 0 {
        return Ok(false);
    }
    tx.execute("INSERT INTO identity_security (id, generation) VALUES (1, 1)", &[])?;
    Ok(true)
}
