// Package powertest loses power: a file system of its own on which a program
// under test works, and which then forgets what was never synced.
//
// What the model promises to a program is what POSIX does, and no more:
//
//   - What was written to a file survives when fsync or fdatasync of that file
//     has returned since, or when it was opened with O_SYNC or O_DSYNC.
//   - A name that was made, renamed or removed in a folder is so after the
//     loss when fsync of that folder has returned since: syncing the file does
//     not keep its name. (ext4, XFS and btrfs do keep it, which is no promise
//     of theirs.) FileKeepsName is the model of these.
//   - Of everything else each part survives by chance, as on a real disk:
//     of the writes to a file any sectors of 512 bytes, in any order; of the
//     changes of a folder the first few, each of them whole.
//   - Mode bits and times survive always.
//
// A Disk is a FUSE file system held in memory: it needs /dev/fuse and the
// right to mount, which is root's. See CONTRIBUTING.md.
package powertest
