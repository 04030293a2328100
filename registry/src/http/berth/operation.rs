//! Berth's own operations that the content store serves, and their actions.

use registry_aws::AwsError;

macro_rules! operations {
    ($($name:ident,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Operation {
            $($name,)*
        }

        impl Operation {
            pub(super) const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            pub(super) fn parse(name: &str) -> Result<Self, AwsError> {
                match name {
                    $(stringify!($name) => Ok(Self::$name),)*
                    _ => Err(AwsError::unknown_operation()),
                }
            }

            /// The IAM action that must be allowed.
            pub(super) fn action(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("berth:", stringify!($name)),)*
                }
            }
        }
    };
}

operations! {
    GetStoreStatus,
    ListStoreFindings,
    StartScrub,
    StopScrub,
    StartRepair,
    PurgeStore,
    AddReplica,
    DrainReplica,
    RemoveReplica,
    ListKeys,
    CreateKey,
    RotateKey,
    ShredKey,
}
