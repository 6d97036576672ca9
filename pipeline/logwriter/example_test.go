package logwriter_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/files"
	"zmtpd/pipeline/logwriter"
	"zmtpd/pipeline/redef"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
)

// Endpoints is a nested record.
type Endpoints struct {
	OrigH netip.Addr     `zeek:"orig_h"`
	OrigP logwriter.Port `zeek:"orig_p"`
	RespH netip.Addr     `zeek:"resp_h"`
	RespP logwriter.Port `zeek:"resp_p"`
}

// Login is a record of the log.
type Login struct {
	TS       time.Time     `zeek:"ts"`
	ID       Endpoints     `zeek:"id"`
	User     string        `zeek:"user"`
	Method   string        `zeek:"method,enum"`
	Failures uint64        `zeek:"failures"`
	Took     time.Duration `zeek:"took"`
	Groups   []string      `zeek:"groups,set,optional"`
	Client   *string       `zeek:"client"`
}

// A program logs over TCP to a logger, here in the same process. In a cluster the logger is "zmtpd
// logger" or Zeek's.
func Example() {
	if err := example(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// {"ts":1700000000.25,"id.orig_h":"192.0.2.7","id.orig_p":50022,"id.resp_h":"192.0.2.1","id.resp_p":22,"user":"alice","method":"Login::PUBLICKEY","failures":0,"took":0.125,"groups":["staff","wheel"],"client":"OpenSSH_10.0"}
	// {"ts":1700000001.5,"id.orig_h":"2001:db8::7","id.orig_p":50023,"id.resp_h":"2001:db8::1","id.resp_p":22,"user":"root","method":"Login::PASSWORD","failures":3,"took":2.0}
}

func example() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	// The logger: a PULL socket, with the standard output in place of a log file.
	options := redef.DefaultOptions()
	options.Format.UseJSON = true
	options.Stdout = true
	logger, err := files.New(files.Config{Dir: ".", Options: options})
	if err != nil {
		return err
	}
	outlet, err := pipeline.NewOutlet(logger, pipeline.OutletConfig{Name: "files"})
	if err != nil {
		return err
	}
	pull := zmtp.NewPull(zmtp.Config{})
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		return err
	}
	receiver := pipeline.Serve(pull, nil, outlet)

	// The program that logs.
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	if err := push.Connect(endpoint); err != nil {
		return err
	}
	w, err := logwriter.New[Login](push,
		logwriter.Config{Node: "sshd-1", Stream: "Login::LOG", Path: "login"})
	if err != nil {
		return err
	}
	client := "OpenSSH_10.0"
	for _, login := range []Login{
		{
			TS: time.UnixMilli(1700000000250),
			ID: Endpoints{
				netip.MustParseAddr("192.0.2.7"),
				logwriter.Port{Number: 50022, Proto: zeek.ProtoTCP},
				netip.MustParseAddr("192.0.2.1"), logwriter.Port{Number: 22, Proto: zeek.ProtoTCP},
			},
			User: "alice", Method: "Login::PUBLICKEY", Took: 125 * time.Millisecond,
			Groups: []string{"staff", "wheel"}, Client: &client,
		},
		{
			TS: time.UnixMilli(1700000001500),
			ID: Endpoints{
				netip.MustParseAddr("2001:db8::7"),
				logwriter.Port{Number: 50023, Proto: zeek.ProtoTCP},
				netip.MustParseAddr("2001:db8::1"),
				logwriter.Port{Number: 22, Proto: zeek.ProtoTCP},
			},
			User: "root", Method: "Login::PASSWORD", Failures: 3, Took: 2 * time.Second,
		},
	} {
		if err := w.Write(ctx, login); err != nil {
			return err
		}
	}

	// The end without loss: from the program to the log.
	for _, step := range []func(context.Context) error{
		w.Close, push.Shutdown, receiver.Shutdown, outlet.Close,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}
