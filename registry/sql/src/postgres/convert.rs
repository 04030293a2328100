//! Values as PostgreSQL's binary formats, and back.
//!
//! The server says of which type each parameter and column is; integers go as wide as it asks for. Invariant: a
//! value read is the value written.

use bytes::BytesMut;
use tokio_postgres::Row as ServerRow;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::failure::{Trouble, Unfit};
use crate::{Row, Value};

type Boxed = Box<dyn std::error::Error + Sync + Send>;

/// A parameter.
#[derive(Debug)]
pub(super) struct Bound<'a>(pub(super) &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(n) if *kind == Type::INT8 => n.to_sql(kind, out),
            Value::Integer(n) if *kind == Type::INT4 => i32::try_from(*n)?.to_sql(kind, out),
            Value::Integer(n) if *kind == Type::INT2 => i16::try_from(*n)?.to_sql(kind, out),
            Value::Text(text) if is_text(kind) => {
                if text.contains('\0') {
                    return Err(Unfit::Nul.into());
                }
                text.to_sql(kind, out)
            }
            Value::Blob(bytes) if *kind == Type::BYTEA => bytes.to_sql(kind, out),
            value => Err(Unfit::kind(value, kind).into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn is_text(kind: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME].contains(kind)
}

pub(super) fn row(from: &ServerRow) -> Result<Row, Trouble> {
    let columns = from.columns().iter().enumerate();
    let values = columns.map(|(index, column)| value(from, index, column.type_()));
    values.collect::<Result<_, _>>().map(Row::new)
}

fn value(row: &ServerRow, column: usize, kind: &Type) -> Result<Value, Trouble> {
    let unreadable = |_| Trouble::Column { column, kind: kind.name().to_owned() };
    let value = if *kind == Type::INT8 {
        row.try_get::<_, Option<i64>>(column).map_err(unreadable)?.map(Value::Integer)
    } else if *kind == Type::INT4 {
        row.try_get::<_, Option<i32>>(column).map_err(unreadable)?.map(|n| Value::Integer(n.into()))
    } else if *kind == Type::BOOL {
        // A comparison: 0 or 1, as SQLite has it.
        row.try_get::<_, Option<bool>>(column).map_err(unreadable)?.map(|flag| Value::Integer(flag.into()))
    } else if is_text(kind) {
        row.try_get::<_, Option<String>>(column).map_err(unreadable)?.map(Value::Text)
    } else if *kind == Type::BYTEA {
        row.try_get::<_, Option<Vec<u8>>>(column).map_err(unreadable)?.map(Value::Blob)
    } else {
        return Err(Trouble::Column { column, kind: kind.name().to_owned() });
    };
    Ok(value.unwrap_or(Value::Null))
}
