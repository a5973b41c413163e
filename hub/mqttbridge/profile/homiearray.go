package profile

import (
	"fmt"
	"strconv"
	"strings"
)

// elements of an array: the nodes node_first to node_(end-1). In the zero value
// they are not known by number.
type elements struct{ first, end int }

// resemble makes the property of an element like that of its node.
func (p *homie) resemble(d *homieDevice, element *homieProperty) error {
	changed := *element.like
	changed.key, changed.field, changed.like = element.key, element.field, element.like
	err := p.grow(d, changed.size()-element.size())
	if err == nil {
		*element = changed
	}
	return err
}

// array marks a node of the convention 3 whose elements are node_0, node_1…
func (p *homie) array(t homieTopic, m Message, report *Report) error {
	d, err := p.device(t)
	if err != nil {
		return err
	}
	node := t.levels[0]
	if len(m.Payload) == 0 {
		delete(d.arrays, node)
		return nil
	}
	var of elements
	if first, last, ok := strings.Cut(string(m.Payload), "-"); ok {
		of.first, of.end = element(first), element(last)+1
	}
	if of.first < 0 || of.end-of.first > maxHomieProperties {
		of = elements{}
	}
	if old, known := d.arrays[node]; known && old == of || !known && len(d.arrays) >= maxHomieProperties || len(node) > MaxGearBytes {
		return nil
	}
	d.arrays[node] = of
	d.changed = true
	p.tell(d, m, report)
	return nil
}

// element is the number of one; -1: it is none.
func element(text string) int {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

// expect makes the properties of all elements of arrays, as far as there is
// room: what they are called is known before they have a value.
func (p *homie) expect(d *homieDevice) {
	for node, of := range d.arrays {
		var ids []string
		for key := range d.properties {
			if id, ok := strings.CutPrefix(key, node+"/"); ok {
				ids = append(ids, id)
			}
		}
		for n := of.first; n < of.end; n++ {
			for _, id := range ids {
				if _, err := p.find(d, fmt.Sprint(node, "_", n), id); err != nil {
					return
				}
			}
		}
	}
}

// find the property of a value; for an element of an array it is made like
// the one of its node.
func (p *homie) find(d *homieDevice, node, id string) (*homieProperty, error) {
	if known := d.properties[node+"/"+id]; known != nil {
		return known, nil
	}
	cut := strings.LastIndexByte(node, '_')
	if cut <= 0 {
		return nil, nil
	}
	like := d.properties[node[:cut]+"/"+id]
	if _, array := d.arrays[node[:cut]]; !array || like == nil {
		return nil, nil
	}
	made, err := p.property(d, node, id)
	if err != nil {
		return nil, err
	}
	made.like = like
	return made, p.resemble(d, made)
}
