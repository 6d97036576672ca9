package main

import (
	"context"
	"fmt"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
	"zmtpd/zmtp/proxy"
)

type proxyCommand struct {
	Front string `arg:"" enum:"router,dealer,pair,pull,push,sub,xsub,pub,xpub" help:"Type of the front socket: router, dealer, pair, pull, push, sub, xsub, pub or xpub."`
	Back  string `arg:"" enum:"router,dealer,pair,pull,push,sub,xsub,pub,xpub" help:"Type of the back socket."`

	FrontEnd tool.EndpointFlags `embed:"" prefix:"front-"`
	BackEnd  tool.EndpointFlags `embed:"" prefix:"back-"`
	Capture  string             `placeholder:"ENDPOINT" help:"Endpoint on which a PUB socket publishes a copy of each message."`
}

// proxied is a socket of a proxy.
type proxied interface {
	proxy.Socket
	Connect(endpoint string) error
	Listen(endpoint string) (bound string, err error)
	Monitor(buffer int) *zmtp.Monitor
	Close() error
}

// newProxied makes a socket of a type.
func newProxied(kind string, config zmtp.Config) (proxied, error) {
	switch kind {
	case "router":
		return zmtp.NewRouter(config, zmtp.RouterOptions{}), nil
	case "dealer":
		return zmtp.NewDealer(config, zmtp.DealerOptions{}), nil
	case "pair":
		return zmtp.NewPair(config), nil
	case "pull":
		return zmtp.NewPull(config), nil
	case "push":
		return zmtp.NewPush(config, zmtp.PushOptions{}), nil
	case "pub":
		return zmtp.NewPub(config), nil
	case "xpub":
		return zmtp.NewXPub(config, zmtp.XPubOptions{}), nil
	case "xsub":
		return zmtp.NewXSub(config), nil
	default:
		s := zmtp.NewSub(config)
		return s, s.Subscribe("")
	}
}

// Run passes messages until ctx ends.
func (c *proxyCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	var ends [2]proxied
	for i, end := range []struct {
		kind  string
		flags *tool.EndpointFlags
		name  string
	}{{c.Front, &c.FrontEnd, "front-"}, {c.Back, &c.BackEnd, "back-"}} {
		config, err := end.flags.Socket()
		if err != nil {
			return err
		}
		if ends[i], err = newProxied(end.kind, config); err != nil {
			return err
		}
		defer ends[i].Close()
		if err := end.flags.AttachAs(end.name, ends[i], std.Err); err != nil {
			return err
		}
	}
	var capture proxy.Sender
	if c.Capture != "" {
		pub := zmtp.NewPub(zmtp.Config{})
		defer pub.Close()
		bound, err := pub.Listen(c.Capture)
		if err != nil {
			return daemon.ListenError("--capture", c.Capture, err)
		}
		fmt.Fprintf(std.Err, "zmtpd: listening on %s\n", bound)
		capture = pub
	}
	p, err := proxy.New(ends[0], ends[1], capture)
	if err != nil {
		return &daemon.UsageError{Err: err}
	}
	err = p.Run(ctx)
	st := p.Statistics()
	fmt.Fprintf(std.Err, "zmtpd: passed %d messages to the back and %d to the front, dropped %d\n",
		st.Back.Out.Messages, st.Front.Out.Messages, st.Back.Dropped+st.Front.Dropped)
	return err
}
