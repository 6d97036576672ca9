package fuzz_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"zmtpd/curve"
)

func curveCertificates(testing.TB) [][]byte {
	const (
		public = "    public-key = \"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\"\n"
		secret = "    secret-key = \"D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs\"\n"
	)
	return [][]byte{
		[]byte("metadata\ncurve\n" + public),
		[]byte("# comment\n\nmetadata\n    name = 'worker 1' # the first\n    email = " +
			"a@example.org\ncurve\n" + public + secret),
		[]byte("curve\r\n\tpublic-key=Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"),
		[]byte("curve\n" + secret),
		[]byte("curve\n    public-key = \"\n"),
	}
}

// An accepted certificate that can be written reads back as the same certificate.
func FuzzCurveCertificate(f *testing.F) {
	addSeeds(f)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := curve.ParseCertificate(text)
		if err != nil {
			return
		}
		if c.Secret != nil && c.Secret.Public() != c.Public {
			t.Fatal("the keys are not a pair")
		}
		path := filepath.Join(dir, "x.key")
		if c.WriteFiles(path, time.Now()) != nil {
			return // some metadata cannot be written
		}
		files := []string{path}
		if c.Secret != nil {
			files = append(files, path+"_secret")
		}
		for _, file := range files {
			again, err := curve.ReadCertificate(file)
			if err != nil {
				t.Fatal(err)
			}
			if again.Public != c.Public || !slices.Equal(again.Metadata, c.Metadata) ||
				file != path && *again.Secret != *c.Secret {
				t.Fatalf("%q reads back with metadata %q", text, again.Metadata)
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	})
}
