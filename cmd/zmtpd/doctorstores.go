package main

import (
	"log/slog"
	"path/filepath"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/doctor"
)

// addStores adds what the doctor has to know of the stores to d.
func (f *storeFlags) addStores(d *doctor.Daemon) error {
	if len(f.Store)+len(f.StoreClone) == 0 {
		return nil
	}
	env := &daemon.Env{Log: slog.New(slog.DiscardHandler)}
	if err := f.natsFlags.check(env); err != nil {
		return err
	}
	if err := (&storeJob{flags: f}).readClients(); err != nil {
		return err
	}
	web, err := newCertificate("--store-http", f.StoreHTTPCertificate, f.StoreHTTPKey,
		f.StoreHTTPClientCA, env.Log)
	if err != nil {
		return err
	}
	redis, err := newCertificate("--store-redis", f.StoreRedisCertificate, f.StoreRedisKey,
		f.StoreRedisClientCA, env.Log)
	if err != nil {
		return err
	}
	s := &d.Stores
	door := func(flag, address string, c *certificate) {
		l := doctor.Listener{Flag: flag, Endpoint: "tcp://" + address}
		d.Others = append(d.Others, l)
		s.Doors = append(s.Doors,
			doctor.Door{Listener: l, Encrypted: c != nil,
				Guarded: f.StoreClients != "" || c != nil && c.ca != ""})
	}
	if f.StoreHTTP != "" {
		door("--store-http", f.StoreHTTP, web)
	}
	for _, address := range f.StoreRedis {
		door("--store-redis", address, redis)
	}
	s.XSub, s.XPub = f.StoreXSub, f.StoreXPub
	s.NATS, s.NATSTLS = f.StoreNATS, f.StoreNATSCA+f.StoreNATSCertificate != ""
	s.NATSLogin = f.StoreNATSPasswordFile+f.StoreNATSTokenFile+f.StoreNATSCreds+f.StoreNATSNkey != ""
	if len(f.Store) > 0 && len(f.StoreNATS) == 0 && f.StoreDir != "" {
		d.Folders = append(d.Folders, doctor.Folder{Flag: "--store-dir", Path: f.StoreDir, Made: true})
		for _, name := range f.Store {
			s.Files = append(s.Files, filepath.Join(f.StoreDir, name+".sqlite"))
		}
	}
	return nil
}
