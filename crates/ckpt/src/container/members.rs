//! What a tar archive holds: a walk over its headers, as Python's `tarfile` reads them.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 100 | name |
//! | 124 | 12 | size, in octal |
//! | 148 | 8 | checksum |
//! | 156 | 1 | type: `0` a file, `1` a hard link, `2` a symbolic one, `3` `4` devices, `5` a folder, `6` a pipe |
//! | 157 | 100 | what a link leads to |
//! | 257 | 5 | `ustar` |
//! | 345 | 155 | what stands before the name |
//!
//! Members of the types `L` and `K` (GNU), `x` and `g` (PAX) hold names for those that follow. A
//! member of any other type is a file for `tarfile`, and links, devices and folders have no bytes
//! there, whatever their size says.

use super::zip::Archive;
use crate::error::CkptError;
use ir::Region;
use std::collections::HashSet;

const BLOCK: u64 = 512;
/// Headers looked at: links, folders and names count too.
const MOST: u64 = 100_000;
/// Bytes of names that stand in a member of their own.
const NAMES: u64 = 1 << 20;
/// Bytes of all names and of what links lead to: one that counts for all that follow is held for each.
const NAMES_HELD: u64 = 16 << 20;
/// Bytes of a path that a system takes (`PATH_MAX` of Linux): a longer one leads through no link.
const PATH: usize = 4096;
/// More odd members than this say nothing new.
const ODD: usize = 1000;

/// A member and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) region: Region,
}

/// What an archive holds, as far as it goes.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Its files.
    pub(crate) members: Vec<Member>,
    /// Names of members that would be put elsewhere than into the archive's own folder, or that are
    /// no files, and why.
    pub(crate) odd: Vec<(String, &'static str)>,
    /// Where it ends.
    pub(crate) end: u64,
    /// Why it goes no further.
    pub(crate) error: Option<ir::Error>,
}

/// Whether a block is a tar header: its checksum fits, of bytes with or without a sign. `tarfile` asks
/// for no more; the magic came with POSIX.
pub(crate) fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else {
        return false;
    };
    let spaces = 148..156;
    let summed = block.iter().enumerate();
    let summed = summed.map(|(i, &b)| if spaces.contains(&i) { b' ' } else { b });
    let (sum, high) = summed.fold((0u64, 0u64), |(sum, high), b| {
        (sum + u64::from(b), high + u64::from(b >> 7))
    });
    let told = octal(block.get(spaces).unwrap_or_default());
    // A byte with a sign counts 256 less. Blanks alone come to 256, and are no header.
    told.is_some_and(|told| told == sum || told.checked_add(256 * high) == Some(sum))
}

/// Whether a file begins as a tar does: with a header, or with what has the magic of one.
pub fn begins_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar") || is_tar(head)
}

fn octal(field: &[u8]) -> Option<u64> {
    // GNU writes numbers that do not fit in base 256, with the top bit set.
    if let Some((&first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        return rest.iter().try_fold(u64::from(first & 0x7f), |n, &b| {
            n.checked_mul(256)?.checked_add(b.into())
        });
    }
    let text = field
        .iter()
        .copied()
        .skip_while(|b| *b == b' ')
        .take_while(|b| !matches!(b, 0 | b' '));
    text.into_iter().try_fold(0u64, |n, b| {
        let digit = char::from(b).to_digit(8)?;
        n.checked_mul(8)?.checked_add(digit.into())
    })
}

/// The members of a tar.
pub(crate) fn members(region: &Region) -> Listing {
    let mut walk = Walk {
        region,
        out: Listing::default(),
        links: Vec::new(),
        names: Vec::new(),
        held: 0,
        next: Names::default(),
        all: Names::default(),
    };
    if let Err(error) = walk.run() {
        walk.out.error = Some(error);
    }
    walk.leaving();
    let mut out = walk.out;
    out.error = out.error.or_else(|| {
        let what = format!("{} bytes are not whole blocks of 512", region.len());
        (!region.len().is_multiple_of(BLOCK)).then(|| CkptError::cut("tar", what).into())
    });
    out
}

/// What a member of its own says of the next, or of all that follow.
#[derive(Clone, Debug, Default)]
struct Names {
    name: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl Names {
    /// Takes what another says of the same member, behind what was said before: of several headers
    /// the first counts.
    fn heed(&mut self, more: Self) {
        self.name = self.name.take().or(more.name);
        self.link = self.link.take().or(more.link);
        self.size = self.size.or(more.size);
    }
}

/// A link and what it leads to.
struct Link {
    name: String,
    to: String,
    hard: bool,
}

struct Walk<'a> {
    region: &'a Region,
    out: Listing,
    links: Vec<Link>,
    /// The names of all members, of any type.
    names: Vec<String>,
    /// Bytes of all of them.
    held: u64,
    next: Names,
    all: Names,
}

impl Walk<'_> {
    fn run(&mut self) -> ir::Result<()> {
        let mut headers = 0;
        while self.out.end + BLOCK <= self.region.len() {
            let at = self.out.end;
            let block = self.region.bytes(at, 512)?;
            if block.iter().all(|&b| b == 0) {
                break;
            }
            headers += 1;
            ir::Limits::check("members of a tar", headers, MOST)?;
            self.header(&block)?;
        }
        Ok(())
    }

    /// One header, and the bytes that belong to it.
    fn header(&mut self, block: &[u8]) -> ir::Result<()> {
        let at = self.out.end;
        let place = format!("tar header at byte {at}");
        if !is_tar(block) {
            return Err(CkptError::container(place, "it is damaged").into());
        }
        let kind = block.get(156).copied().unwrap_or_default();
        let extension = matches!(kind, b'L' | b'K' | b'x' | b'X' | b'g');
        let said = if extension {
            Names::default()
        } else {
            let next = std::mem::take(&mut self.next);
            Names {
                name: next.name.or_else(|| self.all.name.clone()),
                link: next.link.or_else(|| self.all.link.clone()),
                size: next.size,
            }
        };
        let name = said.name.unwrap_or_else(|| own_name(block, kind));
        // Names of links and of files are held twice.
        self.held += 2 * name.len() as u64 + said.link.as_ref().map_or(0, String::len) as u64;
        ir::Limits::check("bytes of the names in a tar", self.held, NAMES_HELD)?;
        // The old type of files is also that of folders, if the name ends so.
        let folder = kind == b'5' || kind == 0 && name.ends_with('/');
        let empty = folder || matches!(kind, b'1'..=b'4' | b'6');
        // A size for all that follow is the member's, and not the way to the next, but where a record
        // of the member's own came behind it.
        let own = said.size.or_else(|| octal(block.get(124..136)?));
        let (own, size) = if empty {
            (Some(0), Some(0))
        } else if extension {
            (own, own)
        } else {
            (own, said.size.or(self.all.size).or(own))
        };
        let step = own.and_then(|own| self.region.slice(at + BLOCK, own).ok());
        let part = size.and_then(|size| self.region.slice(at + BLOCK, size).ok());
        let Some(part) = part else {
            let what = format!("the member {name:?} reaches beyond the end of the file");
            return Err(CkptError::cut(place, what).into());
        };
        let step = step.map_or(part.len(), |step| step.len());
        self.out.end += BLOCK + step.div_ceil(BLOCK) * BLOCK;
        if extension {
            return self.names_of(kind, &part, place);
        }
        match kind {
            b'1' | b'2' => {
                let to = said.link.unwrap_or_else(|| text(block.get(157..257)));
                let hard = kind == b'1';
                let name = name.clone();
                self.links.push(Link { name, to, hard });
            }
            b'3' | b'4' => self.odd(&name, "a device"),
            b'6' => self.odd(&name, "a pipe"),
            _ if folder => {}
            _ => {
                let name = name.clone();
                self.out.members.push(Member { name, region: part });
            }
        }
        self.names.push(name);
        Ok(())
    }

    /// Names that a member holds for those that follow.
    fn names_of(&mut self, kind: u8, part: &Region, place: String) -> ir::Result<()> {
        let len = usize::try_from(part.len()).unwrap_or(usize::MAX);
        if part.len() > NAMES {
            return Err(CkptError::container(place, "a name longer than any").into());
        }
        let bytes = part.bytes(0, len)?;
        let odd = |size: String| {
            let what = format!("the size {size:?} is no plain number");
            CkptError::container(place.clone(), what)
        };
        match kind {
            b'L' => self.next.heed(Names {
                name: Some(text(Some(&bytes))),
                ..Names::default()
            }),
            b'K' => self.next.heed(Names {
                link: Some(text(Some(&bytes))),
                ..Names::default()
            }),
            b'g' => records(&bytes, &mut self.all).map_err(odd)?,
            _ => {
                let mut own = self.all.clone();
                records(&bytes, &mut own).map_err(odd)?;
                self.next.heed(own);
            }
        }
        Ok(())
    }

    fn odd(&mut self, name: &str, what: &'static str) {
        if self.out.odd.len() < ODD {
            self.out.odd.push((name.to_owned(), what));
        }
    }

    /// Finds the members that do not stay in the folder they are unpacked to.
    fn leaving(&mut self) {
        let links: HashSet<String> = self
            .links
            .iter()
            .filter(|link| !link.hard)
            .filter_map(|link| resolved("", &link.name, &HashSet::new()))
            .collect();
        for name in std::mem::take(&mut self.names) {
            if let Some(what) = Archive::unsafe_name(name.as_bytes()) {
                self.odd(&name, what);
            } else if resolved("", name.trim_end_matches('/'), &links).is_none() {
                self.odd(&name, "a name that leads through a link of the archive");
            }
        }
        for link in std::mem::take(&mut self.links) {
            // What a hard link leads to is named from the archive's own folder.
            let folder = link.name.rsplit_once('/').filter(|_| !link.hard);
            let folder = folder.map_or("", |(folder, _)| folder);
            let absolute = Archive::unsafe_name(link.to.as_bytes()) == Some("an absolute name");
            if absolute || resolved(folder, &link.to, &links).is_none() {
                self.odd(&link.name, "a link to what lies outside of the archive");
            }
        }
    }
}

/// The folder that `path`, seen from `folder`, leads to; `None` if that is outside of the archive, or
/// behind one of the links, of which nobody knows here where they lead. The last part may be a link.
fn resolved(folder: &str, path: &str, links: &HashSet<String>) -> Option<String> {
    let mut out = String::new();
    let mut whole = folder.split('/').chain(path.split('/')).peekable();
    while let Some(part) = whole.next() {
        match part {
            "" | "." => continue,
            ".." if out.is_empty() => return None,
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            part => {
                if !out.is_empty() {
                    out.push('/');
                }
                out.push_str(part);
            }
        }
        let more = whole.peek().is_some();
        if more && out.len() <= PATH && links.contains(&out) {
            return None;
        }
    }
    Some(out)
}

/// The name in a header itself.
fn own_name(block: &[u8], kind: u8) -> String {
    let name = text(block.get(..100));
    let before = text(block.get(345..500));
    // GNU's own magic ends in blanks, and its fields are others there.
    if before.is_empty() || kind == b'S' || block.get(257..265) == Some(b"ustar  \0") {
        name
    } else {
        format!("{before}/{name}")
    }
}

/// A field up to its first NUL.
fn text(field: Option<&[u8]>) -> String {
    let field = field.unwrap_or_default().split(|&b| b == 0).next();
    String::from_utf8_lossy(field.unwrap_or_default()).into_owned()
}

/// The records of PAX: `27 path=a/b\n`, of which the number counts all of it.
///
/// # Errors
///
/// A size that is no plain number: Python reads more forms of numbers than others do.
fn records(bytes: &[u8], out: &mut Names) -> Result<(), String> {
    let mut rest = bytes;
    while let Some(blank) = rest.iter().position(|&b| b == b' ') {
        let number = rest.get(..blank).unwrap_or_default();
        let len = std::str::from_utf8(number).ok();
        let len = len.and_then(|len| len.trim().parse::<usize>().ok());
        let Some((record, tail)) = len.and_then(|len| rest.split_at_checked(len)) else {
            return Ok(());
        };
        rest = tail;
        let Some(pair) = record.get(blank + 1..) else {
            return Ok(());
        };
        let pair = String::from_utf8_lossy(pair.strip_suffix(b"\n").unwrap_or(pair));
        match pair.split_once('=') {
            Some(("path" | "GNU.sparse.name", name)) => out.name = Some(name.to_owned()),
            Some(("linkpath", name)) => out.link = Some(name.to_owned()),
            Some(("size", size)) => {
                let plain = size.bytes().all(|b| b.is_ascii_digit());
                let number = size.parse().ok().filter(|_| plain);
                out.size = Some(number.ok_or_else(|| size.to_owned())?);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, with the bytes that follow it, as Python's `tarfile` writes it.
    fn member(kind: u8, name: &str, link: &str, bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        head[156] = kind;
        head[157..157 + link.len()].copy_from_slice(link.as_bytes());
        head[257..265].copy_from_slice(b"ustar\x0000");
        sealed(&mut head);
        let mut out = [&head[..], bytes].concat();
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    fn sealed(head: &mut [u8]) {
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    #[test]
    fn headers_as_tarfile_takes_them() {
        let mut old = member(b'0', "x", "", b"");
        old[257..265].fill(0);
        assert!(!is_tar(&old));
        sealed(&mut old);
        assert!(is_tar(&old) && !is_tar(&[0; 512]) && !is_tar(&[b' '; 512]));
        // The sum of bytes with a sign, as SunOS made it.
        let mut signed = member(b'0', "\u{e4}", "", b"");
        assert!(is_tar(&signed));
        let sum = signed.iter().map(|b| i64::from(b.cast_signed()));
        let field = signed[148..156].iter().map(|b| i64::from(*b)).sum::<i64>();
        let sum = sum.sum::<i64>() - field + 8 * 32;
        signed[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert!(is_tar(&signed));
        signed[0] = 0xc2;
        assert!(!is_tar(&signed));
    }

    fn listing(members_of: &[Vec<u8>]) -> Listing {
        let mut bytes = members_of.concat();
        bytes.resize(bytes.len() + 1024, 0);
        members(&Region::memory(bytes))
    }

    fn odd(all: &[Vec<u8>]) -> Vec<String> {
        let found = listing(all);
        assert!(found.error.is_none(), "{:?}", found.error);
        found.odd.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_name_for_all_members_is_not_held_without_end() {
        let path = format!("path={}\n", "a".repeat(300_000));
        let name = format!("{} {path}", path.len() + 7);
        let mut all = vec![member(b'g', "pax", "", name.as_bytes())];
        all.resize(200, member(b'0', "a", "", b""));
        let found = listing(&all);
        let told = found.error.map(|error| error.to_string());
        assert!(told.is_some_and(|told| told.contains("names in a tar")));
        assert!(found.members.len() < 40);
    }

    #[test]
    fn a_name_of_many_folders_is_looked_at_once() {
        let path = format!("path={}x\n", "a/".repeat(400_000));
        let name = format!("{} {path}", path.len() + 7);
        let all = [
            member(b'2', "l", "a/b", b""),
            member(b'x', "pax", "", name.as_bytes()),
            member(b'0', "x", "", b"hi"),
        ];
        // Minutes, where each folder's whole name is made anew.
        assert_eq!(odd(&all), [""; 0]);
    }

    #[test]
    fn members_that_leave_the_folder_are_told() {
        let file = |name: &str| member(b'0', name, "", b"hi");
        for name in ["../../x", "/etc/x", "a/../../x", "C:\\x", "..", "a\nb"] {
            assert_eq!(odd(&[file(name)]), [name], "{name}");
        }
        for (kind, name, to) in [
            (b'2', "l", "/etc"),
            (b'2', "l", "../x"),
            (b'2', "a/l", "../../x"),
            (b'1', "a/l", "../x"),
            (b'1', "l", "/etc/passwd"),
            (b'3', "d", ""),
            (b'4', "d", ""),
            (b'6', "p", ""),
        ] {
            assert_eq!(odd(&[member(kind, name, to, b"")]), [name], "{name} {to}");
        }
        // A link that stays, and a file behind it, or a link by way of it.
        let inside = member(b'2', "l", "a/b", b"");
        assert_eq!(odd(&[inside.clone(), file("l/x")]), ["l/x"]);
        let away = member(b'2', "m", "l/../../x", b"");
        assert_eq!(odd(&[inside, away]), ["m"]);
    }

    #[test]
    fn members_that_stay_are_not() {
        let all = [
            member(b'5', "a/", "", b""),
            member(b'0', "./a/weights.ckpt", "", b"hi"),
            member(b'2', "a/b/lib.so", "../lib.so.1", b""),
            member(b'1', "copy", "./a/weights.ckpt", b""),
            member(b'2', "latest", "a", b""),
            member(b'0', "a/..b", "", b"x"),
        ];
        assert_eq!(odd(&all), [""; 0]);
        assert_eq!(listing(&all).members.len(), 2);
    }

    #[test]
    fn long_names_are_those_that_count() {
        for (kind, bytes, of, told) in [
            (b'L', &b"../../x\0"[..], b'0', "../../x"),
            (b'K', b"/etc\0", b'2', "x"),
            (b'x', b"16 path=../../x\n", b'0', "../../x"),
            (b'x', b"17 linkpath=/etc\n", b'2', "x"),
            (b'g', b"11 path=/x\n", b'0', "/x"),
        ] {
            let all = [
                member(kind, "././@LongLink", "", bytes),
                member(of, "x", "", b""),
            ];
            assert_eq!(odd(&all), [told]);
        }
        let named = [
            member(b'x', "p", "", b"12 path=a.py"),
            member(b'0', "x", "", b"hi"),
        ];
        assert_eq!(listing(&named).members[0].name, "a.py");
    }

    #[test]
    fn a_size_for_all_members_is_not_the_way_to_the_next() {
        let all = member(b'g', "p", "", b"13 size=1536\n");
        let named = |all: &[Vec<u8>]| {
            let names = listing(all)
                .members
                .into_iter()
                .map(|it| (it.name, it.region.len()));
            names.collect::<Vec<_>>()
        };
        let two = [
            all.clone(),
            member(b'0', "a", "", &[b' '; 486]),
            member(b'0', "b", "", b"hi"),
        ];
        let both = [("a".to_owned(), 1536), ("b".to_owned(), 1536)];
        assert_eq!(named(&two), both);
        // Behind a record of its own it is: Python's `tarfile` then puts both together.
        let one = [
            all,
            member(b'x', "p", "", b"10 path=a\n"),
            member(b'0', "x", "", &[b' '; 486]),
            member(b'0', "b", "", b"hi"),
        ];
        assert_eq!(named(&one)[0], ("a".to_owned(), 1536));
        // … but not behind one that came before it.
        let all = member(b'g', "p", "", b"13 size=1536\n");
        let own = member(b'x', "p", "", b"10 path=a\n");
        let two = [own, all, two[1].clone(), two[2].clone()];
        assert_eq!(named(&two), both);
        // Of several headers the first counts.
        for (first, second, name, len) in [
            (&b"9 size=5\n"[..], &b"13 size=2048\n"[..], "a", 5),
            (b"10 path=b\n", b"10 path=c\n", "b", 486),
        ] {
            let [first, second] = [first, second].map(|it| member(b'x', "p", "", it));
            let file = member(b'0', "a", "", &[b' '; 486]);
            assert_eq!(named(&[first, second, file])[0], (name.to_owned(), len));
        }
        let first = member(b'x', "p", "", b"10 path=b\n");
        let second = member(b'L', "l", "", b"c\0");
        let file = member(b'0', "a", "", b"");
        assert_eq!(named(&[first, second, file])[0].0, "b");
        let odd = member(b'x', "p", "", b"13 size=5_12\n");
        assert!(listing(&[odd, member(b'0', "a", "", b"")]).error.is_some());
    }

    #[test]
    fn every_type_that_tarfile_takes_for_a_file_is_one() {
        for kind in [b'0', 0, b'7', b'S', b'V', b'?'] {
            assert_eq!(listing(&[member(kind, "x", "", b"hi")]).members.len(), 1);
        }
        // A link has no bytes, whatever it says: what follows it is a header.
        let hidden = member(b'0', "x.pkl", "", b"hi");
        let link = member(b'2', "l", "a", &hidden);
        assert_eq!(listing(&[link]).members[0].name, "x.pkl");
    }

    #[test]
    fn an_archive_of_too_many_members_is_an_error() {
        let many = member(b'0', "x", "", b"").repeat(100_001);
        let found = members(&Region::memory(many));
        assert!(found.error.is_some() && found.members.len() == 100_000);
    }
}
