//! X.509-SVIDs: as files, and by the SPIFFE Workload API.
