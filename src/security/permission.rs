//! Which role may do what: one pure table.
//!
//! viewer < editor < operator < admin, within a tenant; cluster-admin stands beside them. That a resource belongs to the
//! principal's tenant is not decided here: every lookup is by tenant.

use std::fmt;
use std::str::FromStr;

use super::token::Principal;

/// What a principal is to its tenant, or to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads its tenant's tasks and executions.
    Viewer,
    /// Also writes and runs its own tasks.
    Editor,
    /// Also runs, pauses, cancels and retries all of its tenant's.
    Operator,
    /// Also everything else of its tenant: others' definitions, audit, secrets, pools, calendars.
    Admin,
    /// Membership, backup and all tenants' audit; beside the others and without them.
    ClusterAdmin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Editor, Self::Operator, Self::Admin, Self::ClusterAdmin];

    /// Returns the name in tokens and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::ClusterAdmin => "cluster-admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            format!("`{text}` is not a role: viewer, editor, operator, admin or cluster-admin")
        })
    }
}

/// What somebody asks to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission<'a> {
    /// Read tasks, executions, output, workers and counts of its tenant, and the state of the cluster.
    Read,
    /// Create a task.
    CreateTask,
    /// Change or delete a task.
    ChangeTask {
        /// Who created the task.
        owner: &'a str,
    },
    /// Run, backfill, pause or resume a task, skip or move an occurrence of it; cancel, retry or re-prioritise an
    /// execution of it. Of nobody's in particular: pause queues, open and close breakers.
    OperateTask {
        /// Who created the task.
        owner: &'a str,
    },
    /// Publish an event, which fires whatever tasks of the tenant wait for it.
    PublishEvent,
    /// Lease work from a queue, and report on it.
    Work,
    /// Read the tenant's audit log.
    Audit,
    /// Manage secrets, pools, limits and calendars of the tenant.
    ManageTenant,
    /// Change the membership, move the leadership, back up.
    ManageCluster,
    /// Read the audit log of every tenant and of the cluster itself.
    AuditAllTenants,
}

/// A permission that is not there. Do not retry; ask for a token with the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this takes the role {needed}{}", if *.own { " or to be the task's owner with the role editor" } else { "" })]
pub struct Denied {
    /// The least role that would do.
    pub needed: Role,
    own: bool,
}

impl Permission<'_> {
    /// The least role that may do this to anything of the tenant, and the owner if an editor may do it to its own.
    fn rule(&self) -> (Role, Option<&str>) {
        match self {
            Self::Read => (Role::Viewer, None),
            Self::CreateTask => (Role::Editor, None),
            Self::ChangeTask { owner } => (Role::Admin, Some(owner)),
            Self::OperateTask { owner } => (Role::Operator, Some(owner)),
            Self::PublishEvent | Self::Work => (Role::Operator, None),
            Self::Audit | Self::ManageTenant => (Role::Admin, None),
            Self::ManageCluster | Self::AuditAllTenants => (Role::ClusterAdmin, None),
        }
    }
}

impl Principal {
    /// Returns the highest of viewer, editor, operator and admin that this principal has.
    #[must_use]
    pub fn tenant_role(&self) -> Option<Role> {
        self.roles.iter().copied().filter(|role| *role != Role::ClusterAdmin).max()
    }

    /// Says whether this principal may do that.
    ///
    /// # Errors
    /// [`Denied`], which names the role that it takes.
    pub fn may(&self, permission: Permission<'_>) -> Result<(), Denied> {
        let (needed, owner) = permission.rule();
        let has = match needed {
            Role::ClusterAdmin => self.roles.contains(&Role::ClusterAdmin),
            needed => self.tenant_role().is_some_and(|role| role >= needed),
        };
        let own = owner == Some(self.subject.as_str()) && self.tenant_role() >= Some(Role::Editor);
        if has || own { Ok(()) } else { Err(Denied { needed, own: owner.is_some() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: &str = "ada";
    const THEIRS: &str = "bob";

    /// Which of viewer, editor, operator, admin and cluster-admin may, as `ada`: a letter each, or a dash.
    #[track_caller]
    fn check(permission: Permission<'_>, expected: &str) {
        let may = |role: &Role| {
            let principal = Principal { subject: MINE.into(), tenant: "acme".into(), roles: vec![*role] };
            principal.may(permission).is_ok()
        };
        let found: String = Role::ALL
            .iter()
            .zip("veoac".chars())
            .map(|(role, sign)| if may(role) { sign } else { '-' })
            .collect();
        assert_eq!(found, expected, "{permission:?}");
    }

    #[test]
    fn the_table() {
        check(Permission::Read, "veoa-");
        check(Permission::CreateTask, "-eoa-");
        check(Permission::ChangeTask { owner: MINE }, "-eoa-");
        check(Permission::ChangeTask { owner: THEIRS }, "---a-");
        check(Permission::OperateTask { owner: MINE }, "-eoa-");
        check(Permission::OperateTask { owner: THEIRS }, "--oa-");
        check(Permission::PublishEvent, "--oa-");
        check(Permission::Work, "--oa-");
        check(Permission::Audit, "---a-");
        check(Permission::ManageTenant, "---a-");
        check(Permission::ManageCluster, "----c");
        check(Permission::AuditAllTenants, "----c");
    }

    #[test]
    fn nobody_without_a_role_may_anything() {
        let nobody = Principal { subject: MINE.into(), tenant: "acme".into(), roles: vec![] };
        assert!(nobody.may(Permission::Read).is_err());
        assert!(nobody.may(Permission::ChangeTask { owner: MINE }).is_err());
    }

    #[test]
    fn a_refusal_names_the_role_that_it_takes() {
        let viewer = Principal { subject: MINE.into(), tenant: "acme".into(), roles: vec![Role::Viewer] };
        let denied = viewer.may(Permission::Audit).expect_err("denied");
        assert_eq!(denied.to_string(), "this takes the role admin");
        let denied = viewer.may(Permission::OperateTask { owner: THEIRS }).expect_err("denied");
        assert_eq!(
            denied.to_string(),
            "this takes the role operator or to be the task's owner with the role editor"
        );
    }
}
