// Package jsstore keeps commands in NATS JetStream.
//
// # One record, one subject, one stream
//
// The stream COMMANDS has one message per command, tl.cmd.<id>.<device>: the
// whole record, with its story. A step replaces it (one message a subject), by
// compare-and-set on the sequence of the one before, so that of two nodes that
// end a command one is told to look again. There is nothing to move when a
// command ends and hence no moment at which it is in two places or in none:
// the last record gets a time to live, the history's retention, and JetStream
// removes it then. A record without an end never ages.
//
// A separate stream of live commands was tried on paper and passed over: each
// removal from it costs a tombstone and with it an fsync, a third one for each
// command; and a history with one message per event would cost one for each
// event. Here a replaced message costs nothing.
//
// The id comes first in the subject. Looking a command up by its id, or
// refusing an id that any device has used, goes straight to one subject; a
// create expects that tl.cmd.<id>.* does not exist, so keys are honoured as
// long as the history is kept.
//
// # What a start costs
//
// A hub needs the commands that have not ended. The follower, one per node,
// reads the stream on when it hears a write, and asks the leader once a second
// whether it has missed one; it keeps their sequences and writes them as a
// checkpoint
// (stream COMMANDS_META) every 5,000 changes, every minute in which there were
// any, and when it stops. A start reads the records that the checkpoint names
// and the stream from there on: the live commands and at most some thousand
// changes, however long the history. A checkpoint is a shortcut and no truth:
// without one, or with an old one, the start reads more and finds the same.
//
// Where the hub is the sole one that writes, as on an embedded server, its
// dispatcher knows each change before the follower could tell it. The follower
// then looks through the stream four times a second: for its checkpoints, and
// for a write whose answer was lost.
//
// # What a step costs
//
// One message and one fsync, and nothing waits for company: one command at a
// time has nobody to share an fsync with. Group commit was measured and passed
// over. JetStream stages an atomic batch of a stream without replicas in a
// message store of its own, made, synced and removed for each batch: one of 10
// records took as long as 13 fsyncs, one of 50 as long as 8, so that only some
// 12 or more at once would gain by it; and one record in it that has changed
// fails them all. Its fast batches sync each message.
//
// # What there is room for
//
// History is bounded by age and by bytes. Near MaxBytes the oldest ended
// commands go, by one purge; those that have not ended are written anew before
// that, behind the others. Which have not ended the follower knows, up to the sequence
// that it has come to, and nothing above that is touched; a record that
// changes meanwhile moves to a sequence above it. This is done beside the
// writes; a Create waits for it only where that came too late. What live
// commands need for their ends is kept free.
//
// A device that connects costs no read at all: the dispatcher has its pending
// commands in memory.
package jsstore
