package placement

import "math"

// Evenness says how much more than its share the node has that has most, as a
// part of the share: 0 is even. Loads that nobody has are even.
type Evenness struct {
	Replicas float64 `json:"replicas"`
	Leaders  float64 `json:"leaders"`
	Ops      float64 `json:"operations"`
	CPU      float64 `json:"cpu"`
	Bytes    float64 `json:"bytes"`
}

func (b *board) evenness() Evenness {
	var most vector
	for i := range b.nodes {
		p := &b.nodes[i]
		for d := range dims {
			if p.fair[d] > 0 {
				most[d] = max(most[d], p.has[d]/p.fair[d]-1)
			}
		}
	}
	return Evenness{most[replicas], most[leaders], most[ops], most[cpu], most[bytes]}
}

// Measure says how evenly the loads of s lie. It returns an error if s is wrong.
func Measure(s State) (Evenness, error) {
	o := Options{}
	if err := o.validate(); err != nil {
		return Evenness{}, err
	}
	b, err := newBoard(s, o)
	if err != nil {
		return Evenness{}, err
	}
	return b.evenness(), nil
}

// LowerBound returns how many replicas must be copied at least so that no node is
// empty that should not be, none has replicas that may not be there, and all have
// their share of replicas within tolerance: each move relieves one node, and fills
// one. It returns an error if s is wrong.
func LowerBound(s State, tolerance float64) (int, error) {
	o := Options{Count: tolerance}
	if err := o.validate(); err != nil {
		return 0, err
	}
	b, err := newBoard(s, o)
	if err != nil {
		return 0, err
	}
	over, under := 0, 0
	for i := range b.nodes {
		p := &b.nodes[i]
		slack := max(tolerance*p.fair[replicas], 1)
		if p.Condition > Suspect {
			slack = 0
		}
		// Whole replicas: what is left must not be beyond the slack.
		over += int(math.Ceil(max(p.has[replicas]-p.fair[replicas]-slack, 0) - even))
		under += int(math.Ceil(max(p.fair[replicas]-slack-p.has[replicas], 0) - even))
	}
	return max(over, under), nil
}
