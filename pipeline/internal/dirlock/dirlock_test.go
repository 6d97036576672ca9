package dirlock

import (
	"os"
	"testing"
)

func TestLockIsExclusiveUntilClosed(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	lock, taken, err := Lock(root)
	if err != nil || taken {
		t.Fatalf("taken %v, error %v", taken, err)
	}
	if again, taken, err := Lock(root); !taken || again != nil || err != nil {
		t.Errorf("a locked folder: taken %v, error %v", taken, err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	lock, taken, err = Lock(root)
	if err != nil || taken {
		t.Fatalf("after the unlock: taken %v, error %v", taken, err)
	}
	lock.Close()
}
