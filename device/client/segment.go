package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// A segment is one file of a FileSpool. All numbers are big endian.
//
//	header  "tlspool1", first position 8, dropped rows 8, zero 4, CRC 4
//	record  size of the body 4, rows 4, dropped rows 8, CRC 4, state 1, zero 3; body
//
// The CRC is CRC-32C: of the header before it; of the record's position, its
// header before the CRC, and its body. The state is not covered: it is
// overwritten in place when the frame is sent, and when it is done with.
const (
	segmentMagic       = "tlspool1"
	segmentHeaderBytes = 32
	recordHeaderBytes  = 24
	recordCRCOffset    = 16
	recordStateOffset  = 20

	recordHeld = 'h'
	recordSent = 's' // held, and may have arrived
	recordDone = 'd'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type segment struct {
	path    string
	file    *os.File
	first   uint64 // position of records[0]
	records []record
	held    int
	head    int // no record before records[head] is held
	size    int64
}

type record struct {
	offset, size uint32
	rows         uint16
	done, sent   bool
}

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x.spool", first))
}

// createSegment makes an empty segment, durably.
func createSegment(dir string, first, dropped uint64) (*segment, error) {
	path := segmentPath(dir, first)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	header := make([]byte, 0, segmentHeaderBytes)
	header = append(header, segmentMagic...)
	header = binary.BigEndian.AppendUint64(header, first)
	header = binary.BigEndian.AppendUint64(header, dropped)
	header = binary.BigEndian.AppendUint32(header, 0)
	header = binary.BigEndian.AppendUint32(header, crc32.Checksum(header, castagnoli))
	_, err = file.Write(header)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(path))
	}
	return &segment{path: path, file: file, first: first, size: segmentHeaderBytes}, nil
}

// errBadSegment says that a file is no segment: its header is torn or damaged.
var errBadSegment = errors.New("bad segment header")

// openSegment reads a segment up to its end or to the first record that is
// torn or damaged, and cuts that off. It returns the highest total of dropped
// rows that it has seen, and how many bytes it cut.
func openSegment(path string) (s *segment, dropped uint64, cut int64, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, 0, err
	}
	header := make([]byte, segmentHeaderBytes)
	if _, err := file.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, 0, err
	}
	if string(header[:8]) != segmentMagic ||
		binary.BigEndian.Uint32(header[28:]) != crc32.Checksum(header[:28], castagnoli) {
		return nil, 0, 0, errBadSegment
	}
	s = &segment{path: path, file: file, first: binary.BigEndian.Uint64(header[8:]), size: segmentHeaderBytes}
	dropped = binary.BigEndian.Uint64(header[16:])
	if path != segmentPath(filepath.Dir(path), s.first) {
		return nil, 0, 0, errBadSegment
	}
	seen, err := s.scan(info.Size())
	if err != nil {
		return nil, 0, 0, err
	}
	if cut = info.Size() - s.size; cut > 0 {
		if err = file.Truncate(s.size); err == nil {
			err = file.Sync()
		}
	}
	return s, max(dropped, seen), cut, err
}

// scan reads records until the first that is not whole.
func (s *segment) scan(end int64) (dropped uint64, err error) {
	buf := make([]byte, recordHeaderBytes, recordHeaderBytes+MaxFrameBytes)
	for s.size+recordHeaderBytes <= end {
		header := buf[:recordHeaderBytes]
		if _, err := s.file.ReadAt(header, s.size); err != nil {
			return dropped, err
		}
		size, rows := binary.BigEndian.Uint32(header), binary.BigEndian.Uint32(header[4:])
		if size > MaxFrameBytes || rows > MaxFrameRows || s.size+recordHeaderBytes+int64(size) > end {
			return dropped, nil
		}
		whole := buf[:recordHeaderBytes+size]
		if _, err := s.file.ReadAt(whole[recordHeaderBytes:], s.size+recordHeaderBytes); err != nil && size > 0 {
			return dropped, err
		}
		pos := s.first + uint64(len(s.records))
		if recordCRC(pos, whole) != binary.BigEndian.Uint32(header[recordCRCOffset:]) {
			return dropped, nil
		}
		dropped = max(dropped, binary.BigEndian.Uint64(header[8:]))
		// A record without rows only carries the total.
		s.push(size, rows, header[recordStateOffset] == recordDone || rows == 0)
		s.records[len(s.records)-1].sent = header[recordStateOffset] == recordSent
	}
	return dropped, nil
}

func (s *segment) push(size, rows uint32, done bool) {
	s.records = append(s.records, record{offset: uint32(s.size), size: size, rows: uint16(rows), done: done})
	s.size += recordHeaderBytes + int64(size)
	if !done {
		s.held++
	}
}

func recordCRC(pos uint64, whole []byte) uint32 {
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], pos)
	crc := crc32.Checksum(p[:], castagnoli)
	crc = crc32.Update(crc, castagnoli, whole[:recordCRCOffset])
	return crc32.Update(crc, castagnoli, whole[recordHeaderBytes:])
}

// append writes one record, and takes it back when that fails.
func (s *segment) append(buf []byte, f Frame, dropped uint64, sync bool) ([]byte, error) {
	buf = binary.BigEndian.AppendUint32(buf[:0], uint32(len(f.Body)))
	buf = binary.BigEndian.AppendUint32(buf, uint32(f.Rows))
	buf = binary.BigEndian.AppendUint64(buf, dropped)
	buf = append(buf, 0, 0, 0, 0, recordHeld, 0, 0, 0)
	buf = append(buf, f.Body...)
	crc := recordCRC(s.first+uint64(len(s.records)), buf)
	binary.BigEndian.PutUint32(buf[recordCRCOffset:], crc)
	_, err := s.file.WriteAt(buf, s.size)
	if err == nil && sync {
		err = s.file.Sync()
	}
	if err != nil {
		// What stays behind if this fails too is overwritten or cut off later.
		return buf, errors.Join(err, s.file.Truncate(s.size))
	}
	s.push(uint32(len(f.Body)), uint32(f.Rows), f.Rows == 0)
	return buf, nil
}

// at is the record of a position; nil: not held here.
func (s *segment) at(pos uint64) *record {
	if pos < s.first || pos-s.first >= uint64(len(s.records)) || s.records[pos-s.first].done {
		return nil
	}
	return &s.records[pos-s.first]
}

// finish takes a record out, in memory and, unless the file will go anyhow,
// on disk.
func (s *segment) finish(r *record, mark bool) error {
	r.done = true
	s.held--
	for s.head < len(s.records) && s.records[s.head].done {
		s.head++
	}
	if !mark {
		return nil
	}
	_, err := s.file.WriteAt([]byte{recordDone}, int64(r.offset)+recordStateOffset)
	return err
}

// markSent notes it in memory, and on disk where that can be written.
func (s *segment) markSent(r *record) {
	r.sent = true
	_, _ = s.file.WriteAt([]byte{recordSent}, int64(r.offset)+recordStateOffset)
}

func (s *segment) body(pos uint64, r *record) ([]byte, error) {
	whole := make([]byte, recordHeaderBytes+r.size)
	if _, err := s.file.ReadAt(whole, int64(r.offset)); err != nil {
		return nil, err
	}
	if recordCRC(pos, whole) != binary.BigEndian.Uint32(whole[recordCRCOffset:]) {
		return nil, ErrFrameDamaged
	}
	return whole[recordHeaderBytes:], nil
}

func (s *segment) remove() error {
	return errors.Join(s.file.Close(), os.Remove(s.path))
}
