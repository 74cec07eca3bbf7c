//! The parts that repeat in every evidence of a machine: certificates, event log, log
//! of user space, list of measured files. An archive stores them once.

use std::ops::Range;

use memchr::memmem;

use crate::evidence::{Collected, Evidence};

impl Evidence {
    /// Positions of the recurring parts in [`Evidence::bytes`], in ascending order. A part
    /// that is not found as one piece is omitted: this only saves space.
    #[must_use]
    pub fn recurring(&self) -> Vec<Range<usize>> {
        let mut parts: Vec<&[u8]> = Vec::new();
        match self.collected() {
            Collected::SnpTpm(snp, _) | Collected::Snp(snp) => parts.push(&snp.certificates),
            Collected::SvsmVtpm(svsm, _) => parts.extend([svsm.snp.certificates.as_slice(), &svsm.manifest]),
            Collected::AzureVtpm(azure, _) => parts.push(&azure.certificates),
            Collected::Tpm(_) => {}
        }
        if let Some(tpm) = self.collected().tpm() {
            parts.push(&tpm.event_log);
            parts.extend(tpm.measured_files.as_deref());
            parts.extend(tpm.user_space_log.as_deref());
        }
        let found = parts.into_iter().filter(|part| !part.is_empty()).filter_map(|part| {
            let start = memmem::find(self.bytes(), part)?;
            Some(start..start.checked_add(part.len())?)
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|range| range.start);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{SnpEvidence, TpmEvidence};
    use crate::tpm::pcr::PcrValues;

    #[test]
    fn recurring_parts_are_found_in_the_encoding() {
        let tpm = TpmEvidence {
            attest: vec![1; 9],
            signature: vec![2; 9],
            ak: vec![3; 9],
            pcrs: PcrValues::default(),
            event_log: vec![4; 500],
            measured_files: Some(vec![5; 700]),
            user_space_log: Some(vec![8; 600]),
        };
        let snp = SnpEvidence { report: vec![6; 1184], certificates: vec![7; 3000] };
        let evidence = Evidence::of(Collected::SnpTpm(snp, tpm));
        let parts: Vec<&[u8]> = evidence.recurring().into_iter().map(|range| &evidence.bytes()[range]).collect();
        let mut lengths: Vec<_> = parts.iter().map(|part| (part[0], part.len())).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [(4, 500), (5, 700), (7, 3000), (8, 600)]);
    }
}
