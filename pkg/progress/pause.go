package progress

import (
	"context"
	"sync"
)

// Pause holds a step back before it begins with something new; what has begun
// goes on. Its zero value is ready for use and holds nothing back; so does nil.
type Pause struct {
	mu sync.Mutex
	// resumed is closed when work may go on; nil while it may.
	resumed chan struct{}
}

// Toggle pauses, or lets go on, and says whether it is paused now.
func (p *Pause) Toggle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resumed == nil {
		p.resumed = make(chan struct{})
		return true
	}
	close(p.resumed)
	p.resumed = nil
	return false
}

// Paused says whether nothing new is to begin for now.
func (p *Pause) Paused() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resumed != nil
}

// Wait returns when something new may begin: at once where nothing is paused.
// The error is the context's cause, where that ends first.
func (p *Pause) Wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	resumed := p.resumed
	p.mu.Unlock()
	if resumed == nil {
		return nil
	}
	select {
	case <-resumed:
		return p.Wait(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
