package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// members reads "1@1 2@2", replicas on nodes.
func members(t *testing.T, text string) (list []consensus.Member) {
	for _, word := range strings.Fields(text) {
		var m consensus.Member
		_, err := fmt.Sscanf(word, "%d@%d", &m.Replica, &m.Node)
		require.NoError(t, err)
		list = append(list, m)
	}
	return list
}

var stepNames = map[consensus.ChangeKind]string{
	consensus.AddLearner: "learner", consensus.Promote: "promote", consensus.Demote: "demote", consensus.Remove: "remove",
}

func (s step) String() string {
	if s.done {
		return "done"
	}
	if len(s.errand.Steps) == 0 {
		return "wait: " + s.why
	}
	var words []string
	for _, c := range s.errand.Steps {
		words = append(words, fmt.Sprint(stepNames[c.Kind], " ", c.Member.Replica))
	}
	return strings.Join(words, ", ")
}

// The next step of a move depends on how the shard is, and on nothing that was done.
func TestNextStep(t *testing.T) {
	swap := meta.Move{Shard: 2, Kind: meta.MoveSwap, From: 3, To: 4, Replica: 9}
	add := meta.Move{Shard: 2, Kind: meta.MoveAdd, To: 4, Replica: 9}
	drop := meta.Move{Shard: 2, Kind: meta.MoveRemove, From: 3}
	for name, c := range map[string]struct {
		move             meta.Move
		voters, learners string
		match, seen      uint64 // of the learner; what was committed a look ago
		dead             []consensus.NodeID
		joint, givenUp   bool
		highest          consensus.ReplicaID
		want             string
	}{
		"a swap begins":                {move: swap, voters: "1@1 2@2 3@3", want: "learner 9"},
		"its learner is behind":        {move: swap, voters: "1@1 2@2 3@3", learners: "9@4", match: 5, seen: 6, want: "wait: the new replica catches up"},
		"nobody looked yet":            {move: swap, voters: "1@1 2@2 3@3", learners: "9@4", match: 5, want: "wait: the new replica catches up"},
		"it has what the others have":  {move: swap, voters: "1@1 2@2 3@3", learners: "9@4", match: 6, seen: 6, want: "promote 9, demote 3"},
		"both are under way":           {move: swap, voters: "1@1 2@2 9@4", learners: "3@3", joint: true, want: "wait: joint configuration"},
		"the old one learns":           {move: swap, voters: "1@1 2@2 9@4", learners: "3@3", want: "remove 3"},
		"the old one is gone":          {move: swap, voters: "1@1 2@2 9@4", want: "done"},
		"a lone leader keeps its vote": {move: swap, voters: "3@3", learners: "9@4", match: 6, seen: 6, want: "promote 9"},
		"and loses it to the other":    {move: swap, voters: "3@3 9@4", want: "demote 3"},
		"the old one is dead":          {move: swap, voters: "1@1 2@2 3@3", learners: "9@4", match: 6, seen: 6, dead: []consensus.NodeID{3}, want: "promote 9, demote 3"},
		"another is dead":              {move: swap, voters: "1@1 2@2 3@3", learners: "9@4", match: 6, seen: 6, dead: []consensus.NodeID{1}, want: "promote 9, demote 3"},
		"too few would live":           {move: swap, voters: "1@1 2@2 3@3", learners: "9@4", match: 6, seen: 6, dead: []consensus.NodeID{1, 4}, want: "wait: too few voters would live"},
		"given up at once":             {move: swap, voters: "1@1 2@2 3@3", givenUp: true, want: "done"},
		"given up before":              {move: swap, voters: "1@1 2@2 3@3", highest: 9, want: "done"},
		"others came since":            {move: swap, voters: "1@1 2@2 3@3", highest: 8, want: "learner 9"},
		"given up as a learner":        {move: swap, voters: "1@1 2@2 3@3", learners: "9@4", match: 6, seen: 6, givenUp: true, want: "remove 9"},
		"too late to give up":          {move: swap, voters: "1@1 2@2 9@4", learners: "3@3", givenUp: true, want: "remove 3"},
		"an addition":                  {move: add, voters: "1@1 2@2", learners: "9@4", match: 6, seen: 6, want: "promote 9"},
		"added":                        {move: add, voters: "1@1 2@2 9@4", want: "done"},
		"an addition that would harm":  {move: add, voters: "1@1", learners: "9@4", match: 6, seen: 6, dead: []consensus.NodeID{4}, want: "wait: too few voters would live"},
		"a removal":                    {move: drop, voters: "1@1 2@2 3@3 5@5", want: "demote 3"},
		"that would harm":              {move: drop, voters: "1@1 2@2 3@3", dead: []consensus.NodeID{1}, want: "wait: too few voters would live"},
		"removed":                      {move: drop, voters: "1@1 2@2 5@5", want: "done"},
	} {
		t.Run(name, func(t *testing.T) {
			at := scene{
				status: consensus.Status{Voters: members(t, c.voters), Learners: members(t, c.learners), Joint: c.joint, Match: map[consensus.ReplicaID]uint64{9: c.match}, Highest: c.highest},
				seen:   c.seen, givenUp: c.givenUp,
				alive: func(m consensus.Member) bool { return !slices.Contains(c.dead, m.Node) },
			}
			require.Equal(t, c.want, next(&c.move, at).String())
		})
	}
}
