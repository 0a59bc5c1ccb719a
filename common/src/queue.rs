//! Names of queues, where jobs wait, and of limits that queues share.

crate::name::checked_name! {
    /// Name of a queue: 1–64 characters of `[a-z0-9_.-]`, starting with a letter or digit.
    QueueName
}

crate::name::checked_name! {
    /// Name of a limit that queues share: as that of a queue.
    LimitName
}

impl QueueName {
    /// Whether it is reserved for Crunch: webhook deliveries wait there, and other workers and clients may not use it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.as_str() == crate::name::WEBHOOKS
    }
}
