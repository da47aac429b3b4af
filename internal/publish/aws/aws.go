// Package aws publishes images as AMIs.
//
// What comes in is an image and an AWSTarget; what goes out is one AMI in each
// of its regions, found by Cluster API's AWS provider, and steps for all that
// belongs to it: the snapshot, copies, permissions, the date of deprecation, a
// parameter of Systems Manager, old images that go. The disk is sent once, into
// the first region, as the child of the version before it, so that only changed
// blocks are sent; the other regions copy. Everything carries the image's
// digest: who has lost the journal still finds what is there, and a run that was
// ended goes on. What uses an image (instances, launch templates) keeps it.
package aws

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
)

// Options are what is not part of a target.
type Options struct {
	// State is the folder that keeps what blocks published snapshots hold.
	State string
	// Config takes the place of what AWS's own tools would find; for tests.
	Config *aws.Config
	// Poll is how long to wait between two looks at what AWS is doing; 0 means 15
	// seconds.
	Poll time.Duration
}

// Publisher is one account.
type Publisher struct {
	target  v1alpha1.AWSTarget
	options Options
	config  aws.Config
	account string

	mu      sync.Mutex
	regions map[string]*region
}

// region is one region's APIs.
type region struct {
	name string
	// look is for requests that change nothing: it tries again by itself, because a
	// plan makes many of them.
	look *ec2.Client
	ec2  *ec2.Client
	ebs  *ebs.Client
	ssm  *ssm.Client
	s3   *s3.Client
}

// New finds the credentials and asks AWS whose they are.
func New(ctx context.Context, target v1alpha1.AWSTarget, o Options) (*Publisher, error) {
	if o.Poll == 0 {
		o.Poll = 15 * time.Second
	}
	p := &Publisher{target: target, options: o, regions: map[string]*region{}}
	if o.Config != nil {
		p.config = o.Config.Copy()
	} else {
		var err error
		if p.config, err = config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile(target.Profile)); err != nil {
			return nil, explain(fmt.Errorf("aws: %w", err))
		}
	}
	p.config.Region = target.Region
	// The frame retries: it shows it, and holds all requests of a place back when
	// one is throttled.
	p.config.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	p.config.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 2 * snapshot.DefaultWorkers
		t.ResponseHeaderTimeout = 2 * time.Minute
	})
	who, err := sts.NewFromConfig(p.config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, explain(fmt.Errorf("aws: ask whose the credentials are: %w", err))
	}
	p.account = aws.ToString(who.Account)
	return p, nil
}

// Place names the account and the region where images are made.
func (p *Publisher) Place() string { return "aws " + p.account + " " + p.target.Region }

// at returns a region's APIs.
func (p *Publisher) at(name string) *region {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.regions[name] == nil {
		c := p.config.Copy()
		c.Region = name
		p.regions[name] = &region{
			name: name, ec2: ec2.NewFromConfig(c), ebs: ebs.NewFromConfig(c), look: ec2.NewFromConfig(c, func(o *ec2.Options) { o.Retryer = p.again() }),
			// Its requests come to the same when they are made twice.
			ssm: ssm.NewFromConfig(c, func(o *ssm.Options) { o.Retryer = p.again() }),
			// Where the endpoint is named, as for stores like S3 of others, names of
			// buckets are no names of hosts.
			s3: s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = c.BaseEndpoint != nil }),
		}
	}
	return p.regions[name]
}

// again tries a request again that may be made twice, with growing waits.
func (p *Publisher) again() aws.Retryer {
	first := min(p.options.Poll, time.Second)
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.RateLimiter = 8, ratelimit.None
		o.Retryables = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary { return aws.BoolTernary(classify(err) != publish.Final) })}
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return min(first<<attempt, 20*time.Second), nil
		})
	})
}

// all are the target's regions, the one where images are made first.
func (p *Publisher) all() []*region {
	regions := []*region{p.at(p.target.Region)}
	for _, name := range p.target.CopyTo {
		regions = append(regions, p.at(name))
	}
	return regions
}

// blocksPath is where a snapshot's list of blocks is kept.
func (p *Publisher) blocksPath(snapshotID string) string {
	return filepath.Join(p.options.State, "aws", p.account, p.target.Region, snapshotID+".blocks")
}

// poll calls look until it says that what it waits for is there.
func (p *Publisher) poll(ctx context.Context, alive func(), look func(context.Context) (bool, error)) error {
	for {
		there, err := look(ctx)
		if err != nil || there {
			return err
		}
		alive()
		select {
		case <-time.After(p.options.Poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
