package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// A node asks another, or itself, whatever either leads.
func TestAsk(t *testing.T) {
	l := boot(t, 2, func(o *cluster.LocalOptions) {
		o.Node = func(_ int, o *cluster.Options) {
			o.NodeServices = map[string]cluster.NodeHandler{
				"echo": func(_ context.Context, from consensus.NodeID, req []byte) ([]byte, error) {
					if len(req) == 0 {
						return nil, errors.New("nothing to echo")
					}
					return fmt.Appendf(nil, "%d: %s", from, req), nil
				},
			}
		}
	})
	asker := l.Node(1)
	for _, n := range l.Nodes() {
		answer, err := asker.Ask(within(t, time.Minute), n.ID(), "echo", []byte("x"))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%d: x", asker.ID()), string(answer))
		_, err = asker.Ask(within(t, time.Minute), n.ID(), "echo", nil)
		require.ErrorContains(t, err, "nothing to echo")
		_, err = asker.Ask(within(t, time.Minute), n.ID(), "none", nil)
		require.ErrorIs(t, err, transport.ErrNoService)
	}
}
