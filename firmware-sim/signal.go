package firmwaresim

import (
	"math"
	"math/rand/v2"
	"time"
)

// The values of a signal depend on its random source and on the time alone, so
// that a seed repeats them.

// diurnal swings over the day: lowest before dawn, highest in mid-afternoon,
// with slow weather on top and sensor noise.
type diurnal struct {
	rng         *rand.Rand
	mean, swing float64
	noise       float64
	lo, hi      float64
	weather     float64
}

func (d *diurnal) at(t time.Time) float64 {
	const day = 24 * 60 * 60
	seconds := float64(t.Unix()%day) + float64(t.Nanosecond())/1e9
	phase := 2 * math.Pi * (seconds/day - 15.0/24)
	// An Ornstein-Uhlenbeck step: wanders, and comes back.
	d.weather += -0.01*d.weather + 0.05*d.rng.NormFloat64()
	v := d.mean + d.swing*math.Cos(phase) + d.weather + d.noise*d.rng.NormFloat64()
	return round(min(max(v, d.lo), d.hi), 2)
}

// battery discharges along the flat curve of a lithium cell, sags under load
// and is charged again when it is low.
type battery struct {
	rng    *rand.Rand
	charge float64 // 0 to 1
	drain  float64 // a sample
}

func (b *battery) at(time.Time) float64 {
	b.charge -= b.drain * (0.5 + b.rng.Float64())
	if b.charge < 0.08 {
		b.charge = 1
	}
	voltage := 3.0 + 0.75*b.charge + 0.45*math.Pow(b.charge, 8) - 0.35*math.Exp(-20*b.charge)
	if b.rng.IntN(20) == 0 {
		voltage -= 0.08 // the radio sends
	}
	return round(voltage, 3)
}

// vibration is the RMS velocity of a motor's bearing. A fault builds up over
// some hundred samples and is then repaired.
type vibration struct {
	rng    *rand.Rand
	base   float64
	wear   float64
	faulty bool
}

func (v *vibration) at(time.Time) float64 {
	switch {
	case v.faulty:
		v.wear += 0.01 + 0.02*v.rng.Float64()
		if v.wear > 6 {
			v.faulty, v.wear = false, 0
		}
	case v.rng.IntN(2000) == 0:
		v.faulty = true
	}
	return round(math.Abs(v.base+v.wear+0.12*v.rng.NormFloat64()), 3)
}

// walk is a vehicle that drives in smooth turns within some kilometres of
// its start.
type walk struct {
	rng      *rand.Rand
	lat, lon float64 // degrees, WGS 84
	home     [2]float64
	heading  float64 // radians, 0 is north
	speed    float64 // m/s
	last     time.Time
}

const metresPerDegree = 111_320

func (w *walk) step(t time.Time) {
	seconds := 1.0
	if !w.last.IsZero() {
		seconds = min(max(t.Sub(w.last).Seconds(), 0), 60)
	}
	w.last = t
	w.speed = min(max(w.speed+0.3*w.rng.NormFloat64(), 0), 14)
	w.heading += 0.15 * w.rng.NormFloat64()
	if math.Hypot(w.lat-w.home[0], w.lon-w.home[1]) > 0.05 {
		w.heading = math.Atan2(w.home[1]-w.lon, w.home[0]-w.lat)
	}
	w.lat += w.speed * seconds * math.Cos(w.heading) / metresPerDegree
	w.lon += w.speed * seconds * math.Sin(w.heading) / (metresPerDegree * math.Cos(w.lat*math.Pi/180))
}

// contact is a door: mostly shut, open for a while now and then.
type contact struct {
	rng  *rand.Rand
	open bool
}

func (c *contact) at(time.Time) bool {
	if c.open && c.rng.IntN(10) == 0 || !c.open && c.rng.IntN(60) == 0 {
		c.open = !c.open
	}
	return c.open
}

func round(v float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(v*scale) / scale
}
