// Package commands brings a command to a device at most once per id, and
// knows its end, always. It is the domain: the Command, its State and the one
// table of legal transitions, the Store that keeps them, and the Dispatcher
// that carries commands to the sessions and ends back. It knows no
// technology; the folder jsstore below it keeps commands in JetStream.
//
// # What must be on disk before what
//
// Three rules carry the promise, wherever a hub is killed:
//
//   - A command is recorded before Send returns.
//   - SENT is recorded, by compare-and-set, before the first byte leaves. Of
//     two hubs that both believe to hold the session one gets to send. A
//     command of the class once is put on the wire once and never again: where
//     its session dies without a word it ends TIMED_OUT, "delivery unknown;
//     not resent".
//   - An end is recorded before the device is told so (CommandAck) and before
//     any watcher sees it. Until then the device keeps it and reports again.
//
// For the classes until-delivered and latest-wins the hub sends again on each
// new connection until the device says DELIVERED; the device remembers the
// ids it has executed and answers a repetition with what it recorded.
//
// # Durable writes for one command
//
// Two, for a device that is connected and answers quickly: QUEUED and SENT
// are one record, and so are DELIVERED and the end. DELIVERED waits 20 ms for
// the end before it is written by itself, progress up to a second, and that a
// command was sent again likewise: losing one of these to a kill loses a line
// of the story, because the device says it again or is asked again. One more
// write each: for a device that is away (QUEUED, later SENT), for an answer
// that takes longer than 20 ms, for a cancellation.
//
// # Whose word counts
//
// The device's. TIMED_OUT, EXPIRED and CANCELED are what the hub assumes when
// it hears nothing; an end that the device reports later is recorded and
// wins, because what ran must be known. Its first end stays. DELIVERED after
// EXPIRED is a line in the story; the command does not come back to life.
//
// # Cancellation
//
// What is QUEUED is CANCELED at once. What was SENT may have reached the
// device: it is marked, not sent again, and the device gets a CommandCancel,
// now or on its next connection, wherever its DELIVERED may be. A device that
// has not begun, or has never seen the id, answers CANCELED and remembers the
// id as executed. Where no word comes, the command ends by its TTL (EXPIRED)
// or its response timeout (TIMED_OUT), and the reason says that it was to be
// canceled.
//
// # Several nodes
//
// Each node follows the store (one consumer per node, none per device) and
// keeps the commands without an end in memory. So a command that any node has
// accepted comes by itself to the node that holds the session, and a
// connecting device costs a look into a map. Deadlines are one heap per node,
// rebuilt from the store at start; the node that a command belongs to acts on
// them first, others three to five seconds later, and compare-and-set lets
// one of them. Epochs fence: a session that the device has left gets nothing
// that a newer one has got, and what went into a dead socket is sent again on
// the living one.
//
// # Locks
//
// queue.lane (order of what goes out) before entry.step (one step of a
// command at a time; both are held across durable writes) before
// Dispatcher.mu (memory only).
package commands
