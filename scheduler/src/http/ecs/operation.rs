//! Every operation of the ECS API by name: those served here, and those known and not supported.
//!
//! The IAM action of an operation is `ecs:` and its name. An unsupported operation is authorized like any
//! other before it is refused, so that what a caller may do does not show in what Berth can do.

/// An operation that Berth serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    CreateCluster,
    CreateService,
    DeleteAttributes,
    DeleteCluster,
    DeleteService,
    DeregisterContainerInstance,
    DeregisterTaskDefinition,
    DescribeClusters,
    DescribeContainerInstances,
    DescribeServices,
    DescribeTaskDefinition,
    DescribeTasks,
    DiscoverPollEndpoint,
    ListAttributes,
    ListClusters,
    ListContainerInstances,
    ListServices,
    ListTagsForResource,
    ListTaskDefinitionFamilies,
    ListTaskDefinitions,
    ListTasks,
    PutAttributes,
    RegisterContainerInstance,
    RegisterTaskDefinition,
    RunTask,
    StartTask,
    StopTask,
    SubmitAttachmentStateChanges,
    SubmitContainerStateChange,
    SubmitTaskStateChange,
    TagResource,
    UntagResource,
    UpdateCluster,
    UpdateClusterSettings,
    UpdateContainerInstancesState,
    UpdateService,
}

macro_rules! table {
    (served: $($served:ident)+; unsupported: $($unsupported:ident)+;) => {
        /// Every operation's name.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($served),)+ $(stringify!($unsupported),)+];

        impl Operation {
            /// None for an operation that is known and not supported, or not known at all.
            pub(crate) fn parse(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($served) => Some(Self::$served),)+
                    _ => None,
                }
            }

            /// The IAM action.
            pub(crate) fn action(self) -> &'static str {
                match self {
                    $(Self::$served => concat!("ecs:", stringify!($served)),)+
                }
            }
        }

        impl Operation {
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$served => stringify!($served),)+
                }
            }
        }

        /// The IAM action of any operation, served or not.
        pub(crate) fn action_of(name: &str) -> Option<&'static str> {
            match name {
                $(stringify!($served) => Some(concat!("ecs:", stringify!($served))),)+
                $(stringify!($unsupported) => Some(concat!("ecs:", stringify!($unsupported))),)+
                _ => None,
            }
        }
    };
}

table! {
    served:
        CreateCluster CreateService DeleteAttributes DeleteCluster DeleteService DeregisterContainerInstance
        DeregisterTaskDefinition DescribeClusters DescribeContainerInstances DescribeServices
        DescribeTaskDefinition DescribeTasks DiscoverPollEndpoint ListAttributes ListClusters
        ListContainerInstances ListServices ListTagsForResource ListTaskDefinitionFamilies ListTaskDefinitions
        ListTasks PutAttributes RegisterContainerInstance RegisterTaskDefinition RunTask StartTask StopTask
        SubmitAttachmentStateChanges SubmitContainerStateChange SubmitTaskStateChange TagResource UntagResource
        UpdateCluster UpdateClusterSettings UpdateContainerInstancesState UpdateService;
    unsupported:
        AssociateGatewayWithCluster ContinueServiceDeployment CreateCapacityProvider CreateDaemon
        CreateExpressGatewayService CreateGateway CreateTaskSet DeleteAccountSetting DeleteCapacityProvider
        DeleteDaemon DeleteDaemonTaskDefinition DeleteExpressGatewayService DeleteGateway DeleteTaskDefinitions
        DeleteTaskSet DescribeCapacityProviders DescribeDaemon DescribeDaemonDeployments DescribeDaemonRevisions
        DescribeDaemonTaskDefinition DescribeExpressGatewayService DescribeGateway DescribeGatewayResources
        DescribeGatewayRoute DescribeServiceDeployments DescribeServiceRevisions DescribeTaskSets
        DisassociateGatewayFromCluster ExecuteCommand GetTaskProtection ListAccountSettings ListDaemonDeployments
        ListDaemonTaskDefinitions ListDaemons ListGatewayClusterAssociations ListGatewayRoutes ListGateways
        ListServiceDeployments ListServicesByNamespace PutAccountSetting PutAccountSettingDefault
        PutClusterCapacityProviders RegisterDaemonTaskDefinition StopServiceDeployment UpdateCapacityProvider
        UpdateContainerAgent UpdateDaemon UpdateExpressGatewayService
        UpdateGateway UpdateServicePrimaryTaskSet UpdateTaskProtection UpdateTaskSet;
}

#[cfg(test)]
mod tests {
    use super::{NAMES, Operation, action_of};

    #[test]
    fn all_88_operations_are_known_once() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 88);
        for name in names {
            assert_eq!(action_of(name).unwrap(), format!("ecs:{name}"));
        }
        assert!(Operation::parse("ExecuteCommand").is_none());
        assert_eq!(Operation::parse("RunTask").unwrap().action(), "ecs:RunTask");
    }
}
