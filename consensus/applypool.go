package consensus

import (
	"sync"
)

// An applyPool runs apply tasks of machines that may wait for a disk. Tasks of
// one replica never overlap: the replica hands out one at a time.
type applyPool struct {
	size  int
	mu    sync.Mutex
	more  sync.Cond
	begun bool         // guarded by mu
	ended bool         // guarded by mu
	tasks []*applyTask // guarded by mu
	wg    sync.WaitGroup
}

func newApplyPool(size int) *applyPool {
	p := &applyPool{size: size}
	p.more.L = &p.mu
	return p
}

func (p *applyPool) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun {
		return
	}
	p.begun = true
	for range p.size {
		p.wg.Go(p.loop)
	}
}

func (p *applyPool) loop() {
	var scratch applyBatch
	for {
		p.mu.Lock()
		for len(p.tasks) == 0 && !p.ended {
			p.more.Wait()
		}
		if len(p.tasks) == 0 {
			p.mu.Unlock()
			return
		}
		t := p.tasks[0]
		p.tasks = p.tasks[1:]
		p.mu.Unlock()
		t.run(&scratch)
		t.r.later(func() { t.r.appliedAsync(t); t.r.touch() })
		t.r.host.wg.Done()
	}
}

func (p *applyPool) post(t *applyTask) {
	p.mu.Lock()
	p.tasks = append(p.tasks, t)
	p.mu.Unlock()
	p.more.Signal()
}

func (p *applyPool) close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.more.Broadcast()
	p.wg.Wait()
}
