//! What a power failure leaves of the names in a folder.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rand::{Rng, rngs::StdRng};

use super::{
    Metadata,
    log::{Entry, Operation},
};

/// The files and folders below the watched folder, by path.
#[derive(Debug, Clone)]
pub(super) struct Names {
    nodes: BTreeMap<PathBuf, Node>,
    /// Where each file is now, by inode number, unlinked ones included.
    bodies: HashMap<u64, PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(u64),
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
    }
}

impl Names {
    /// Everything below `folder`, and the unlinked files in `graves`.
    pub(super) fn scan(folder: &Path, graves: &Path) -> io::Result<Self> {
        let mut names = Self { nodes: BTreeMap::new(), bodies: HashMap::new() };
        for grave in fs::read_dir(graves)? {
            let grave = grave?;
            names.bodies.insert(grave.metadata()?.ino(), grave.path());
        }
        names.scan_into(folder)?;
        Ok(names)
    }

    fn scan_into(&mut self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.scan_into(&path)?;
                self.nodes.insert(path, Node::Folder);
            } else {
                let inode = entry.metadata()?.ino();
                self.nodes.insert(path.clone(), Node::File(inode));
                self.bodies.insert(inode, path);
            }
        }
        Ok(())
    }

    /// Undoes `undone`, given newest first; `entries` is everything that happened.
    pub(super) fn undo(mut self, entries: &[Entry], undone: &[&Entry]) -> Self {
        let is_undone = |entry: &Entry| undone.binary_search_by(|other| entry.at.cmp(&other.at)).is_ok();
        let moves: Vec<&Entry> = moves(entries).filter(|entry| !is_undone(entry)).collect();
        for entry in undone {
            let now = |path: &Path| follow(path, entry.at, &moves);
            match &entry.action {
                Operation::Create { path } | Operation::Link { path } => self.remove(&now(path)),
                Operation::Unlink { path, inode } => self.restore(&now(path), Node::File(*inode)),
                Operation::RemoveFolder { path } => self.restore(&now(path), Node::Folder),
                Operation::Rename { from, to, inode, replaced, .. } => {
                    self.undo_rename(&now(from), &now(to), *inode, *replaced);
                }
                _ => {}
            }
        }
        self
    }

    fn undo_rename(&mut self, from: &Path, to: &Path, inode: u64, replaced: Option<u64>) {
        // The process may have died between recording and doing it.
        if self.nodes.contains_key(from) {
            return;
        }
        match self.nodes.remove(to) {
            Some(Node::Folder) => self.move_folder(from, to),
            Some(Node::File(_)) => drop(self.nodes.insert(from.into(), Node::File(inode))),
            None => return,
        }
        if let Some(replaced) = replaced {
            self.nodes.insert(to.into(), Node::File(replaced));
        }
    }

    fn move_folder(&mut self, from: &Path, to: &Path) {
        let below: Vec<_> = self.nodes.extract_if(.., |path, _| path.starts_with(to)).collect();
        self.nodes.insert(from.into(), Node::Folder);
        for (path, node) in below {
            let rest = path.strip_prefix(to).expect("it was chosen by this prefix");
            self.nodes.insert(from.join(rest), node);
        }
    }

    fn remove(&mut self, path: &Path) {
        self.nodes.retain(|other, _| !other.starts_with(path));
    }

    fn restore(&mut self, path: &Path, node: Node) {
        self.nodes.entry(path.into()).or_insert(node);
    }

    /// The files that `after` still names, with the path where each is now.
    pub(super) fn files_of(&self, after: &Self) -> BTreeMap<u64, PathBuf> {
        let inodes = after.nodes.values().filter_map(|node| match node {
            Node::File(inode) => Some(*inode),
            Node::Folder => None,
        });
        inodes.filter_map(|inode| Some((inode, self.bodies.get(&inode)?.clone()))).collect()
    }

    /// Makes the files below `folder` as `after` names them.
    pub(super) fn rebuild(&self, after: &Self, folder: &Path) -> io::Result<()> {
        let mut name = folder.as_os_str().to_owned();
        name.push(".rebuilt");
        let rebuilt = PathBuf::from(name);
        fs::create_dir(&rebuilt)?;
        fs::set_permissions(&rebuilt, fs::metadata(folder)?.permissions())?;
        // In the order of paths a folder comes before what is in it; what has lost its folder is left out.
        for (path, node) in &after.nodes {
            let target = rebuilt.join(path.strip_prefix(folder).unwrap_or(path));
            if !target.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match node {
                Node::Folder => fs::create_dir(&target)?,
                Node::File(inode) => {
                    if let Some(body) = self.bodies.get(inode) {
                        fs::hard_link(body, &target)?;
                    }
                }
            }
        }
        fs::remove_dir_all(folder)?;
        fs::rename(&rebuilt, folder)
    }
}

/// Draws the changes of names that a power failure undoes, newest first.
pub(super) fn undone<'a>(entries: &'a [Entry], metadata: Metadata, rng: &mut StdRng) -> Vec<&'a Entry> {
    let mut undone = match metadata {
        Metadata::Ordered => draw_end(changes(entries, committed(entries)).collect(), rng),
        Metadata::Lost => {
            let synced = synced(entries);
            let moves: Vec<&Entry> = moves(entries).collect();
            let mut by_folder = BTreeMap::<PathBuf, Vec<&Entry>>::new();
            for entry in changes(entries, synced.all) {
                let folder = follow(folder_of(&entry.action), entry.at, &moves);
                if synced.folders.get(&folder).is_none_or(|begin| entry.at >= *begin) {
                    by_folder.entry(folder).or_default().push(entry);
                }
            }
            by_folder.into_values().flat_map(|changes| draw_end(changes, rng)).collect()
        }
    };
    undone.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    undone
}

/// The end of a list, of any length; in half of the cases nothing.
fn draw_end<'a>(mut changes: Vec<&'a Entry>, rng: &mut StdRng) -> Vec<&'a Entry> {
    let kept = if rng.random() { changes.len() } else { rng.random_range(0..=changes.len()) };
    changes.split_off(kept)
}

fn changes(entries: &[Entry], from: u64) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(move |entry| entry.at >= from && !folder_of(&entry.action).as_os_str().is_empty())
}

/// The folder whose entries an action changes; empty if none.
fn folder_of(action: &Operation) -> &Path {
    let path = match action {
        Operation::Create { path } | Operation::Unlink { path, .. } | Operation::RemoveFolder { path } => path,
        Operation::Link { path } | Operation::Rename { to: path, .. } => path,
        Operation::Write { .. } | Operation::Resize { .. } | Operation::Sync { .. } | Operation::SyncAll { .. } => {
            return Path::new("");
        }
    };
    path.parent().unwrap_or(Path::new(""))
}

/// The renamings of folders, oldest first.
fn moves(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| matches!(entry.action, Operation::Rename { is_folder: true, .. }))
}

/// What something that had this path at a time is called after these renamings of folders.
fn follow(path: &Path, at: u64, moves: &[&Entry]) -> PathBuf {
    let mut path = path.to_owned();
    for later in moves.iter().filter(|later| later.at > at) {
        if let Operation::Rename { from, to, .. } = &later.action
            && let Ok(rest) = path.strip_prefix(from)
        {
            path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
        }
    }
    path
}

/// The times before which changes of names are durable by an fsync of their folder.
struct Synced {
    all: u64,
    /// By the folder's last name.
    folders: HashMap<PathBuf, u64>,
}

fn synced(entries: &[Entry]) -> Synced {
    let moves: Vec<&Entry> = moves(entries).collect();
    let mut synced = Synced { all: 0, folders: HashMap::new() };
    for entry in entries {
        match &entry.action {
            Operation::SyncAll { begin } => synced.all = *begin,
            Operation::Sync { begin, failed: false, path, .. } => {
                synced.folders.insert(follow(path, *begin, &moves), *begin);
            }
            _ => {}
        }
    }
    synced
}

/// The time before which a journaling file system has committed all changes of names: every fsync commits them, an
/// fdatasync only where the file itself is new or has another size.
fn committed(entries: &[Entry]) -> u64 {
    let mut committed = 0;
    let mut created = HashMap::<&Path, u64>::new();
    let mut resized = HashMap::<u64, u64>::new();
    for Entry { at, action } in entries {
        match action {
            Operation::Create { path } => drop(created.insert(path, *at)),
            Operation::Resize { inode, .. } => drop(resized.entry(*inode).or_insert(*at)),
            Operation::Write { inode, to, old_size, .. } if to > old_size => drop(resized.entry(*inode).or_insert(*at)),
            Operation::SyncAll { begin } => committed = *begin,
            Operation::Sync { begin, failed: false, data_only, inode, path } => {
                let since = [resized.get(inode), created.get(path.as_path())];
                let new = since.into_iter().flatten().any(|change| (committed..*begin).contains(change));
                if new || !data_only {
                    committed = committed.max(*begin);
                }
                resized.remove(inode);
            }
            _ => {}
        }
    }
    committed
}
