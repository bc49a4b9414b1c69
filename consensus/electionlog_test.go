package consensus_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// An election that nobody waits for any more must neither answer the next one
// nor hold up the hook that tells of leaders: the bubble would end as dead.
func TestElectionLogOutlivesAFailedElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &electionLog{led: make(chan struct{}, 1)}
		c := &cluster{}
		wait := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return c.firstReply(ctx, log, nil, nil)
		}
		elect := func(n consensus.NodeID) {
			log.note(consensus.Event{Node: n, Kind: consensus.EventCampaign})
			log.note(consensus.Event{Node: n, Kind: consensus.EventLeader})
		}

		// Its leader comes when the wait has been given up.
		log.begin(1, time.Now())
		require.ErrorContains(t, wait(), "no leader")
		elect(2)
		log.end()

		// The next has no leader, so nothing may answer for one.
		log.begin(2, time.Now())
		require.Empty(t, log.led)
		require.ErrorContains(t, wait(), "no leader")
		elect(3)
		log.end()

		// Two more, and nobody took a token of theirs.
		for range 2 {
			log.begin(3, time.Now())
			time.Sleep(time.Millisecond)
			elect(3)
			require.Empty(t, log.first, "the old leader's own events do not count")
			elect(1)
			require.Len(t, log.led, 1)
			parts, err := log.parts(5 * time.Millisecond)
			require.NoError(t, err)
			require.InDelta(t, 4e6, parts["ready-ns"], 1)
			log.end()
			log.note(consensus.Event{Node: 2, Kind: consensus.EventSuspect})
			require.NotContains(t, log.first, consensus.EventSuspect, "nothing counts after the end")
		}
	})
}
