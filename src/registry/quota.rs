//! What a publisher may keep. It is counted over the versions that there are, so that it outlives a restart and what is
//! deleted is free again.

use super::snapshot::Vocabs;

/// Who publishes, and how much may be kept of theirs; none is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publisher {
    /// By which its versions are known again.
    pub name: String,
    /// Versions of all vocabularies that are not deleted.
    pub kept_versions: Option<u32>,
    /// Their bytes, as the store has them.
    pub kept_bytes: Option<u64>,
}

/// A limit of a publisher that one version more would pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key has {limit} = {value}, of which {used} are used and {needed} more are needed; deleting versions of its own frees them"
)]
pub struct OverQuota {
    /// Its name in the file of keys.
    pub limit: &'static str,
    /// Its value.
    pub value: u64,
    /// How much of it is used.
    pub used: u64,
    /// What the version would add.
    pub needed: u64,
}

impl Publisher {
    /// Looks whether so many versions of so many bytes together may be kept beside those that `vocabs` has of this publisher.
    pub(super) fn check(&self, vocabs: &Vocabs, versions: u64, bytes: u64) -> Result<(), OverQuota> {
        let limits = [
            ("kept_versions", self.kept_versions.map(u64::from), versions),
            ("kept_bytes", self.kept_bytes, bytes),
        ];
        if limits.iter().all(|(_, value, _)| value.is_none()) {
            return Ok(());
        }
        let slots = vocabs.values().flat_map(|vocab| vocab.slots.values());
        let own = slots.filter(|slot| slot.facts.publisher.as_deref() == Some(&self.name));
        let used =
            own.fold([0, 0], |[versions, bytes], slot| [versions + 1, bytes + slot.facts.native_bytes]);
        for ((limit, value, needed), used) in limits.into_iter().zip(used) {
            if let Some(value) = value.filter(|value| used + needed > *value) {
                return Err(OverQuota { limit, value, used, needed });
            }
        }
        Ok(())
    }
}
