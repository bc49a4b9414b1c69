package consensus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// emptyAppend picks the messages that tell of nothing but a commit index.
func emptyAppend(p transport.Pending) bool {
	return kindOf(p) == "MsgApp" && len(p.Message.Raft.GetEntries()) == 0
}

// In a closed loop nobody is told of a commit index twice: the next command's
// entry says it. After the last command the followers hear of it all the same,
// without a tick.
func TestCommitIndexRidesWithTheNextCommand(t *testing.T) {
	// Between two passes the clients that were woken run.
	o := manualOptions{charge: func(consensus.Work) time.Duration { return time.Nanosecond }}
	stepwise(t, o, func(t *testing.T, m *manual) {
		m.elect(1)
		alone, with := 0, 0
		m.hold = func(p transport.Pending) bool {
			switch {
			case emptyAppend(p):
				alone++
			case kindOf(p) == "MsgApp":
				with++
			}
			return false
		}
		const commands = 50
		c := m.call("a client", func(ctx context.Context) error {
			for i := range commands {
				if _, err := m.host(1).Propose(ctx, 1, put("k", fmt.Sprint(i))); err != nil {
					return err
				}
			}
			return nil
		})
		m.settle()
		require.True(t, c.ended)
		require.NoError(t, c.err)
		require.Equal(t, 2*commands, with)
		require.Equal(t, 2, alone, "one to each follower, in the end")
		for _, id := range []consensus.NodeID{2, 3} {
			require.Equal(t, fmt.Sprint(commands-1), m.get(id, "k"))
		}
	})
}

// Where commands end in pass after pass and none comes behind them, news of the
// first do not wait for the last.
func TestCommitIndexWaitsForOnePass(t *testing.T) {
	const commands = 8
	var m *manual
	var applied, told []int // after each pass
	answer := func(p transport.Pending) bool { return kindOf(p) == "MsgAppResp" && p.To == 1 }
	one := func() func(transport.Pending) bool {
		n := 0
		return func(p transport.Pending) bool {
			if answer(p) {
				n++
			}
			return n == 1 && answer(p)
		}
	}
	step := false
	charge := func(consensus.Work) time.Duration {
		if step {
			applied = append(applied, int(m.status(1).Applied))
			told = append(told, m.wire.DeliverIf(emptyAppend))
			m.wire.DeliverIf(one())
		}
		return 0
	}
	stepwise(t, manualOptions{charge: charge}, func(t *testing.T, cluster *manual) {
		m = cluster
		m.elect(1)
		m.isolate(3)
		m.hold = answer
		for i := range commands {
			m.propose(1, "k", fmt.Sprint(i))
			m.settle()
		}
		step = true
		m.wire.DeliverIf(one())
		m.pool.Run()
		step, m.hold = false, nil
		m.settle()
		require.Equal(t, []int{3, 4, 5, 6, 7, 8}, applied[:6], "a command ends in each pass")
		require.Equal(t, []int{0, 1, 0, 1, 0, 1}, told[:6], "one message for two of them")
	})
}
