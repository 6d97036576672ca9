package salsa

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

func TestMain(m *testing.M) {
	for k := generic; k <= avx512ifma; k++ {
		if !slices.Contains(kernels(), k) {
			fmt.Fprintf(os.Stderr, "salsa: NOT TESTED: %s, which this processor lacks\n", k)
		}
	}
	os.Exit(m.Run())
}

// eachKernel runs a test with each kernel, and skips those that the processor does not have.
func eachKernel(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	before := use
	defer func() { use = before }()
	for k := generic; k <= avx512ifma; k++ {
		t.Run(k.String(), func(t *testing.T) {
			if !slices.Contains(kernels(), k) {
				t.Skipf("this processor does not have %s", k)
			}
			use = k
			test(t)
		})
	}
}

func TestBestKernelIsUsed(t *testing.T) {
	all := kernels()
	if !slices.IsSorted(all) || all[0] != generic || use != all[len(all)-1] {
		t.Errorf("kernel %[2]v of %[1]v is used", all, use)
	}
	if got := Instructions(); got != use.String() {
		t.Errorf("Instructions() = %q", got)
	}
}
