//go:build !linux

package measure

import "errors"

func mkfifo(string) error { return errors.ErrUnsupported }
