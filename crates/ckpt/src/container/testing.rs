//! Small archives for tests.

/// A zip of stored entries.
pub(crate) fn pack(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in entries {
        let crc = crc32fast::hash(data).to_le_bytes();
        let len = u32::try_from(data.len()).unwrap().to_le_bytes();
        let name_len = u16::try_from(name.len()).unwrap().to_le_bytes();
        let at = u32::try_from(out.len()).unwrap().to_le_bytes();
        let common = [&[0; 8][..], &crc, &len, &len, &name_len, &[0; 2]].concat();
        out.extend([b"PK\x03\x04", &[20, 0][..], &common, name.as_bytes(), data].concat());
        let row = [
            b"PK\x01\x02",
            &[20, 0, 20, 0][..],
            &common,
            &[0; 10],
            &at,
            name.as_bytes(),
        ];
        directory.extend(row.concat());
    }
    let n = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let at = u32::try_from(out.len()).unwrap().to_le_bytes();
    let len = u32::try_from(directory.len()).unwrap().to_le_bytes();
    out.extend(directory);
    out.extend([b"PK\x05\x06", &[0; 4][..], &n, &n, &len, &at, &[0; 2]].concat());
    out
}
